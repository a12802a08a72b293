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
        lambda wildcards: [
            path for name in CORPORA if ON_CLUSTER for path in missing_shards(name)
        ],
        [
            LAST.format(stage=f"{run.name}/{job[-1].name}")
            for run in RUNS.values()
            for job in jobs_of(run)
        ],
        [
            f"results/{run.name}/{name}"
            for run in RUNS.values()
            for name in [
                "ubm.h5",
                "history.tsv",
                *run.scores,
                *run.pages,
                "SHA256SUMS",
            ]
        ],
        [f"results/{COMPARISON}"] if COMPARED else [],
    message:
        "all that the configuration asks for is there"


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
    export,
    report,
    compare,
    adapt,


# The jobs of a cluster read this file too, but decide nothing.
if workflow.is_main_process:
    with one_line():
        write_stamps(RUNS, prefix())
    if len(lines := [*finished(RUNS)]) == len(RUNS):
        print(*lines, sep="\n", file=sys.stderr)


onsuccess:
    print(*finished(RUNS), sep="\n", file=sys.stderr)


onerror:
    print(
        "stopped; the lines above say why. The same command goes on from what is done, once what they "
        "name is correct; `gmmcore check --repair` removes damaged files."
    )
