# requires  the feature list and the files it names, or nothing for the demonstration
# promises  results/features/<corpus>/shows.tsv, <shard>-<digest>.npy, corpus.json, skipped.tsv
#
# <corpus> is a digest of the settings of `features`: runs with the same settings share the folder, and
# held-out shows have one of their own. source.json has these settings, and the fingerprint of the feature
# files, which are too many for Snakemake.


rule demo:
    input:
        settings="{demo}/settings.json",
    output:
        shows="{demo}/shows.txt",
        truth="{demo}/truth.h5",
    log:
        "logs/{demo}/demo.log",
    conda:
        "../envs/gmmcore.yaml"
    params:
        folder=lambda wildcards, output: os.path.dirname(output.shows),
    message:
        "the demonstration corpus in {wildcards.demo}"
    shell:
        "gmmcore demo --settings {input.settings:q} --output {params.folder:q} --log {log:q}"


checkpoint shows:
    input:
        settings=SOURCE,
        list=list_of,
    output:
        TABLE,
    log:
        "logs/features/{corpus}/shows.log",
    conda:
        "../envs/gmmcore.yaml"
    params:
        list=lambda wildcards, input: ["--list", *input.list] if input.list else [],
    message:
        "features {wildcards.corpus}: check the list"
    shell:
        "gmmcore shows --settings {input.settings:q} {params.list:q} --output {output:q}"
        " --log {log:q}"


rule shard:
    input:
        settings=SOURCE,
        shows=TABLE,
    output:
        "results/features/{corpus}/{shard}-{digest}.npy",
    log:
        "logs/features/{corpus}/{shard}-{digest}.log",
    # On a cluster, shards are packed one after the other in one job of some minutes.
    group:
        "shards"
    conda:
        "../envs/gmmcore.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 500 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
        packing=1,
    message:
        "features {wildcards.corpus}: pack shard {wildcards.shard}"
    shell:
        "gmmcore shard --settings {input.settings:q} --shows {input.shows:q}"
        " --shard {wildcards.shard} --output {output:q} --log {log:q}"


# Says that all shards are there. It is never older than the table.
checkpoint packed:
    input:
        shows=TABLE,
        shards=lambda wildcards: missing_shards(wildcards.corpus),
    output:
        "logs/features/{corpus}/packed.sum",
    log:
        "logs/features/{corpus}/packed.log",
    conda:
        "../envs/gmmcore.yaml"
    params:
        dates=lambda wildcards: dates(TABLE.format(**wildcards)),
    message:
        "features {wildcards.corpus}: all shards"
    shell:
        "gmmcore checksums {input.shows:q} --output {output:q} --log {log:q}"


# On a cluster, which shows and shards there are, is known once the list is checked.
rule corpus:
    input:
        wait_for_shards,
        settings=SOURCE,
        shows=TABLE,
    output:
        corpus=CORPUS,
        skipped=SKIPPED,
    log:
        "logs/features/{corpus}/corpus.log",
    conda:
        "../envs/gmmcore.yaml"
    message:
        "features {wildcards.corpus}: gather the shards"
    shell:
        "gmmcore corpus --settings {input.settings:q} --shows {input.shows:q}"
        " --output {output.corpus:q} --skipped {output.skipped:q} --log {log:q}"


# On one machine, one job does all of it. It leaves the shards that are there.
if not ON_CLUSTER:

    rule pack:
        input:
            settings=SOURCE,
            list=list_of,
        output:
            shows=TABLE,
            corpus=CORPUS,
            skipped=SKIPPED,
        log:
            "logs/features/{corpus}/pack.log",
        conda:
            "../envs/gmmcore.yaml"
        threads: workflow.resource_settings.cores or 1
        params:
            part=part_of,
        message:
            "features {wildcards.corpus}, {params.part}: check the list, select the frames of speech, pack them"
        shell:
            "gmmcore pack --settings {input.settings:q} --list {input.list:q}"
            " --shows {output.shows:q} --output {output.corpus:q} --skipped {output.skipped:q}"
            " --threads {threads} --log {log:q}"

    ruleorder: pack > shows
    ruleorder: pack > corpus
