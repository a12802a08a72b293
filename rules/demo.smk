# requires  nothing
# promises  <demo.folder>/shows.txt   the list of the demonstration corpus
#           <demo.folder>/truth.h5    the mixture its frames were drawn from

if DEMO:

    checkpoint demo:
        output:
            shows=f"{DEMO}/shows.txt",
            truth=f"{DEMO}/truth.h5",
        log:
            f"{LOG}/demo.log",
        conda:
            "../envs/gmmcore.yaml"
        params:
            folder=lambda wildcards, output: os.path.dirname(output.shows),
            settings=lambda wildcards: quoted(demo_settings(CONFIG)),
        shell:
            "gmmcore demo --settings {params.settings:q} --output {params.folder:q} 2>&1 | tee {log:q}"

    rule recovery:
        input:
            truth=f"{DEMO}/truth.h5",
            mixture=RUN.final_path,
            shards=lambda wildcards: shard_files(),
        output:
            f"{FOLDER}/recovery.txt",
        log:
            f"{LOG}/recovery.log",
        conda:
            "../envs/gmmcore.yaml"
        shell:
            "gmmcore recovery --truth {input.truth:q} --mixture {input.mixture:q}"
            " --shards {input.shards:q} --output {output:q} 2>&1 | tee {log:q}"
