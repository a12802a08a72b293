# Gaussian mixture training: features -> shards -> one Gaussian -> split and iterate -> full -> ubm.h5
# `snakemake -n` lists the jobs that will run; README.md explains the rest.

from snakemake.utils import min_version

min_version("9.0")


# config.yaml is only used if the configuration names no features.
if not {"features", "demo"} & config.keys():

    configfile: "config.yaml"


include: "rules/common.smk"


# Intermediate files are named too, so that missing ones are made again.
rule all:
    input:
        [f"{demo}/{name}" for demo in DEMOS for name in ["shows.txt", "truth.h5"]],
        [
            f"results/features/{corpus}/{name}"
            for corpus in CORPORA
            for name in ["shows.tsv", "corpus.json", "skipped.tsv"]
        ],
        lambda wildcards: [path for name in CORPORA for path in missing_shards(name)],
        [path.format(stage=stage) for stage in STAGES for path in [FIRST, LAST]],
        [
            f"results/{run.name}/{name}"
            for run in RUNS.values()
            for name in [
                "ubm.h5",
                *run.products,
                *run.scores,
                *run.pages,
                "SHA256SUMS",
            ]
        ],
        [f"results/{COMPARISON}"] if COMPARED else [],


include: "rules/features.smk"
include: "rules/train.smk"
include: "rules/scores.smk"
include: "rules/products.smk"


# On a cluster, these short jobs run on the submitting machine: in the queue, they would wait longer
# than they run.
localrules:
    all,
    demo,
    shows,
    packed,
    corpus,
    initialise,
    split,
    diag2full,
    finish,
    recovery,
    export,
    report,
    compare,
    adapt,
    checksums,


# The jobs of a cluster read this file too, but decide nothing.
if workflow.is_main_process:
    with one_line():
        write_stamps(RUNS, prefix())


onerror:
    print(
        "stopped; the lines above say why. The same command goes on from what is done; if it stops "
        "there again, `gmmcore check --repair` removes damaged files."
    )
