# requires  the feature list and the files it names
# promises  results/features/<corpus>/shows.tsv             the checked list, with shards
#           results/features/<corpus>/<shard>-<digest>.npy  processed frames
#           results/features/<corpus>/corpus.json           the list of the shards, and the moments
#           results/features/<corpus>/skipped.tsv           the faulty shows that were left out
#
# <corpus> is a digest of the settings of `features`: runs with the same settings share the folder.
# Held-out shows have a folder of their own.


checkpoint shows:
    input:
        # There are too many feature files for Snakemake; the table holds a digest of them.
        list=lambda wildcards: [
            path for path in [CORPORA[wildcards.corpus].list] if path in LISTS
        ],
        again=again(TABLE),
    output:
        update(TABLE),
    log:
        "logs/features/{corpus}/shows.log",
    conda:
        "../envs/gmmcore.yaml"
    params:
        settings=corpus_settings,
    shell:
        "gmmcore shows {params.settings:q} --output {output:q} --log {log:q}"


rule shard:
    input:
        shows=TABLE,
        again=again("results/features/{corpus}/{shard}-{digest}.npy"),
    output:
        update("results/features/{corpus}/{shard}-{digest}.npy"),
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
    params:
        settings=corpus_settings,
    shell:
        "gmmcore shard {params.settings:q} --shows {input.shows:q}"
        " --shard {wildcards.shard} --output {output:q} --log {log:q}"


rule corpus:
    input:
        shows=TABLE,
        shards=shards_of_corpus,
        again=again("results/features/{corpus}/corpus.json"),
    output:
        corpus=update("results/features/{corpus}/corpus.json"),
        skipped=update("results/features/{corpus}/skipped.tsv"),
    log:
        "logs/features/{corpus}/corpus.log",
    conda:
        "../envs/gmmcore.yaml"
    params:
        on_error=lambda wildcards: CORPORA[wildcards.corpus].on_error,
    shell:
        "gmmcore corpus --shows {input.shows:q} --on-error {params.on_error}"
        " --output {output.corpus:q} --skipped {output.skipped:q} --log {log:q}"
