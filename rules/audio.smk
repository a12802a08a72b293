# requires  audio files, and their list or folder
# promises  <audio.folder>/shows.txt    features of all shows, and their list


def audio_options(wildcards):
    """Options of the verb `extract`."""
    return [
        f"--{key}={value}"
        for key, value in AUDIOS[wildcards.audio].items()
        if key not in ("list", "folder") and value is not None
    ]


rule extract:
    input:
        lambda wildcards: local(literal(AUDIOS[wildcards.audio]["list"])),
    output:
        "{audio}/shows.txt",
    log:
        "logs/{audio}/extract.log",
    wildcard_constraints:
        audio=alternatives(AUDIOS),
    conda:
        "../envs/gmmcore.yaml"
    params:
        folder=lambda wildcards, output: os.path.dirname(output[0]),
        options=audio_options,
    shell:
        "gmmcore extract --audio {input:q} --output {params.folder:q} {params.options:q} 2>&1"
        " | tee {log:q}"
