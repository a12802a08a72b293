# requires  the feature list and the files it names
# promises  results/<run>/shows.tsv             the checked list, dealt to shards
#           results/<run>/shards/<shard>.npy    frames ready to use
#           results/<run>/corpus.json           what was gathered, with its moments


checkpoint shows:
    input:
        # The files themselves are too many for Snakemake; the fingerprint stands for them.
        made_list,
    output:
        SHOWS,
    log:
        f"{LOG}/shows.log",
    conda:
        "../envs/gmmcore.yaml"
    params:
        config=RUN.config_path,
        fingerprint=lambda wildcards: features_fingerprint(),
    shell:
        "gmmcore shows --config {params.config:q} --output {output:q} 2>&1 | tee {log:q}"


rule shard:
    input:
        lambda wildcards: [] if shard_is_done(wildcards) else SHOWS,
    output:
        f"{FOLDER}/shards/{{shard}}-{{digest}}.npy",
    log:
        f"{LOG}/shards/{{shard}}-{{digest}}.log",
    wildcard_constraints:
        shard=r"\d+",
        digest="[0-9a-f]{12}",
    conda:
        "../envs/gmmcore.yaml"
    params:
        config=RUN.config_path,
        shows=SHOWS,
    shell:
        "gmmcore shard --config {params.config:q} --shows {params.shows:q}"
        " --shard {wildcards.shard} --output {output:q} 2>&1 | tee {log:q}"


checkpoint corpus:
    input:
        lambda wildcards: shard_files(),
    output:
        RUN.corpus_path,
    log:
        f"{LOG}/corpus.log",
    conda:
        "../envs/gmmcore.yaml"
    params:
        components=CONFIG["components"],
        on_error=CONFIG["features"]["on_error"],
    shell:
        "gmmcore corpus --shards {input:q} --components {params.components}"
        " --on-error {params.on_error} --output {output:q} 2>&1 | tee {log:q}"
