# requires  audio files, and their list or folder
# promises  <audio.folder>/shows.txt    features of all shows, and their list

if AUDIO:

    checkpoint extract:
        input:
            literal(AUDIO),
        output:
            shows=f"{CONFIG['audio']['folder']}/shows.txt",
        log:
            f"{LOG}/extract.log",
        conda:
            "../envs/gmmcore.yaml"
        params:
            folder=lambda wildcards, output: os.path.dirname(output.shows),
            options=lambda wildcards: audio_options(CONFIG),
        shell:
            "gmmcore extract --audio {input:q} --output {params.folder:q} {params.options:q} 2>&1"
            " | tee {log:q}"
