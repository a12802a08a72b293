# requires  the feature list and the files it names
# promises  results/features/<corpus>/shows.tsv             the checked list, with shards
#           results/features/<corpus>/<shard>-<digest>.npy  processed frames
#           results/features/<corpus>/corpus.json           the list of the shards, and the moments
#           results/features/<corpus>/skipped.tsv           the faulty shows that were left out
#
# <corpus> is a digest of the settings of `features`: runs with the same settings share the folder.
# Held-out shows have a folder of their own. source.json has the settings, and the fingerprint of the
# feature files, which are too many for Snakemake.


checkpoint shows:
    input:
        settings=SOURCE,
        list=lambda wildcards: [
            path for path in [CORPORA[wildcards.corpus].list] if path in LISTS
        ],
    output:
        TABLE,
    log:
        "logs/features/{corpus}/shows.log",
    conda:
        "../envs/gmmcore.yaml"
    params:
        list=lambda wildcards, input: ["--list", *input.list] if input.list else [],
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
    benchmark:
        "logs/features/{corpus}/{shard}-{digest}.benchmark.tsv"
    wildcard_constraints:
        shard=r"\d+",
        digest="[0-9a-f]{12}",
    # On a cluster, shards are packed one after the other in one job of some minutes.
    group:
        "shards"
    conda:
        "../envs/gmmcore.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 500 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
        packing=1,
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
    shell:
        "gmmcore checksums {input.shows:q} --output {output:q} --log {log:q}"


rule corpus:
    input:
        wait_for_shards,
        settings=SOURCE,
        shows=TABLE,
    output:
        corpus=CORPUS,
        skipped="results/features/{corpus}/skipped.tsv",
    log:
        "logs/features/{corpus}/corpus.log",
    conda:
        "../envs/gmmcore.yaml"
    shell:
        "gmmcore corpus --settings {input.settings:q} --shows {input.shows:q}"
        " --output {output.corpus:q} --skipped {output.skipped:q} --log {log:q}"
