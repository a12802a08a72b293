# Gaussian mixture training: features -> shards -> one Gaussian -> split and iterate -> full -> ubm.h5
# `snakemake -n` says what will run; README.md explains the rest.

from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/demo.smk"
include: "rules/audio.smk"
include: "rules/features.smk"
include: "rules/train.smk"
include: "rules/full.smk"
include: "rules/export.smk"
include: "rules/report.smk"


# On a cluster, what takes a second or two stays on the machine that submits: a job of its own would
# wait longer than it works.
localrules:
    all,
    corpus,
    initialise,
    maximise,
    finish,
    report,


# Every stage is named, not only the last: else raised limits of earlier ones go unnoticed.
rule all:
    default_target: True
    input:
        last_of_every_stage,
        RUN.final_path,
        f"{FOLDER}/history.tsv",
        exports(),
        f"{FOLDER}/report.html" if CONFIG["report"] else [],
        f"{FOLDER}/recovery.txt" if CONFIG["demo"]["folder"] else [],


onsuccess:
    RUN.tidy()
    print(f"finished: {RUN.final_path}")


onerror:
    print(
        "stopped; the lines above say why. The same command goes on from what is done."
    )
