# requires  the feature list and the files it names
# promises  results/<run>/shows.tsv             the checked list, dealt to shards
#           results/<run>/shards/<shard>.npy    frames ready to use
#           results/<run>/corpus.json           what was gathered, with its moments

FEATURES_JSON = quoted({"features": CONFIG["features"], "seed": CONFIG["seed"]})


checkpoint shows:
    input:
        # The files themselves are too many for Snakemake; the fingerprint stands for them.
        f"{DEMO}/shows.txt" if DEMO else [],
    output:
        SHOWS,
    params:
        features=lambda wildcards: FEATURES_JSON,
        fingerprint=FINGERPRINT,
    log:
        f"logs/{CONFIG['run']}/shows.log",
    conda:
        "../envs/gmmcore.yaml"
    shell:
        "gmmcore shows --config {params.features:q} --output {output:q} 2>&1 | tee {log:q}"


rule shard:
    input:
        lambda wildcards: [] if shard_is_done(wildcards) else SHOWS,
    output:
        FOLDER + "/shards/{shard}-{digest}.npy",
    params:
        features=lambda wildcards: FEATURES_JSON,
        shows=SHOWS,
    wildcard_constraints:
        shard=r"\d+",
        digest="[0-9a-f]{12}",
    log:
        f"logs/{CONFIG['run']}/shards/" + "{shard}-{digest}.log",
    conda:
        "../envs/gmmcore.yaml"
    shell:
        "gmmcore shard --config {params.features:q} --shows {params.shows:q}"
        " --shard {wildcards.shard} --output {output:q} 2>&1 | tee {log:q}"


def shard_is_done(wildcards):
    """Whether a shard is there, whole as far as can be told without reading its frames."""
    path = f"{FOLDER}/shards/{wildcards.shard}-{wildcards.digest}.npy"
    return RUN.shard_is_whole(path)


checkpoint corpus:
    input:
        lambda wildcards: [] if known_corpus() else shard_files(),
    output:
        RUN.corpus_path,
    params:
        components=CONFIG["components"],
        on_error=CONFIG["features"]["on_error"],
    log:
        f"logs/{CONFIG['run']}/corpus.log",
    conda:
        "../envs/gmmcore.yaml"
    shell:
        "gmmcore corpus --shards {input:q} --components {params.components}"
        " --on-error {params.on_error} --output {output:q} 2>&1 | tee {log:q}"
