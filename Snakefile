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
        [
            f"results/{folder}"
            for run in RUNS.values()
            for folder in [
                *(f"features/{name}/shows.tsv" for name in run.corpora),
                *(f"features/{name}/corpus.json" for name in run.corpora),
                *(f"{run.name}/{stage.name}.h5" for stage in run.plan),
                f"{run.name}/ubm.h5",
                *(f"{run.name}/{name}" for name in [*run.products, *run.pages]),
                f"{run.name}/SHA256SUMS",
            ]
        ],
        [f"results/{COMPARISON}"] if COMPARED else [],


include: "rules/again.smk"
include: "rules/iterations.smk"
include: "rules/features.smk"
include: "rules/demo.smk"
include: "rules/scatter.smk"
include: "rules/train.smk"
include: "rules/products.smk"


# On a cluster, these short jobs run on the submitting machine: in the queue, they would wait longer
# than they run.
localrules:
    all,
    demo,
    shows,
    corpus,
    initialise,
    split,
    diag2full,
    finish,
    recovery,
    history,
    export,
    report,
    compare,
    checksums,


onerror:
    print(
        "stopped; the lines above say why. The same command goes on from what is done."
    )
