# Gaussian mixture training: features -> shards -> one Gaussian -> split and iterate -> full -> ubm.h5
# `snakemake -n` says what will run; README.md explains the rest.

from snakemake.utils import min_version

min_version("9.0")


# A configuration that says what its features are stands alone.
if not {"features", "demo", "audio"} & config.keys():

    configfile: "config.yaml"


include: "rules/common.smk"


# Files that later ones are made from are named too: else nobody would miss them.
rule all:
    input:
        [
            f"results/{folder}"
            for run in RUNS.values()
            for folder in [
                f"features/{run.corpus}/shows.tsv",
                f"features/{run.corpus}/corpus.json",
                *(f"{run.name}/{stage.name}.h5" for stage in run.plan),
                f"{run.name}/ubm.h5",
                *(f"{run.name}/{name}" for name in run.products),
                f"{run.name}/SHA256SUMS",
            ]
        ],


include: "rules/again.smk"
include: "rules/audio.smk"
include: "rules/features.smk"
include: "rules/demo.smk"
include: "rules/scatter.smk"
include: "rules/train.smk"
include: "rules/products.smk"


# On a cluster, what takes a second or two stays on the machine that submits: a job of its own would
# wait longer than it works.
localrules:
    all,
    corpus,
    initialise,
    split,
    diag2full,
    maximise,
    finish,
    history,
    export,
    report,
    checksums,


onerror:
    print(
        "stopped; the lines above say why. The same command goes on from what is done."
    )
