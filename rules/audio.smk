# requires  audio files, in a list or a folder
# promises  <audio.folder>/shows.txt    features of all shows, and their list


rule extract:
    input:
        audio=lambda wildcards: local(literal(AUDIOS[wildcards.audio].list)),
        again=again("{audio}/shows.txt"),
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
        recipe=lambda wildcards: LISTS[f"{wildcards.audio}/shows.txt"],
    shell:
        "gmmcore extract --audio {input.audio:q} --recipe {params.recipe}"
        " --output {params.folder:q} {params.options:q} --log {log:q}"
