# requires  the last mixture of the last stage, and recovery.txt with a demonstration corpus
# promises  results/<run>/ubm.h5         the final mixture
#           results/<run>/history.tsv    the table of its iterations
#           results/<run>/ubm.<format>   the mixture in the format of another tool
#           results/<run>/<kind>/<components>.<format>  the same of a size that is kept
#           results/<run>/SHA256SUMS     the checksums of all these files
#           results/<run>/report.html    the training as plots and tables, with times
#           results/comparison.tsv       all runs side by side, if there are two or more


rule finish:
    input:
        settings=lambda wildcards: SETTINGS.format(stage=last_stage(wildcards.run)),
        mixture=lambda wildcards: LAST.format(stage=last_stage(wildcards.run)),
    output:
        report(FINAL, caption="../docs/captions/mixture.rst", category="{run}"),
    log:
        "logs/{run}/finish.log",
    conda:
        "../envs/gmmcore.yaml"
    shell:
        "gmmcore finish --settings {input.settings:q} --mixture {input.mixture:q}"
        " --output {output:q} --log {log:q}"


rule history:
    input:
        mixture=FINAL,
    output:
        report(
            "results/{run}/history.tsv",
            caption="../docs/captions/history.rst",
            category="{run}",
        ),
    log:
        "logs/{run}/history.log",
    conda:
        "../envs/gmmcore.yaml"
    shell:
        "gmmcore history --mixture {input.mixture:q} --output {output:q} --log {log:q}"


rule export:
    input:
        "results/{name}.h5",
    output:
        "results/{name}.{format}",
    log:
        "logs/{name}.{format}.log",
    wildcard_constraints:
        name=alternatives([*(f"{name}/ubm" for name in RUNS), *STAGES]),
        format=alternatives(name.removeprefix("ubm.") for name in EXPORTS.values()),
    conda:
        "../envs/gmmcore.yaml"
    params:
        format=lambda wildcards: next(
            name for name, file in EXPORTS.items() if file == f"ubm.{wildcards.format}"
        ),
    shell:
        "gmmcore convert {input:q} {output:q} --format {params.format} --log {log:q}"


rule report:
    input:
        settings=RUN,
        mixture=FINAL,
        stages=lambda wildcards: [
            f"results/{wildcards.run}/{stage.name}.h5"
            for stage in RUNS[wildcards.run].plan
        ],
        corpus=lambda wildcards: corpus_of(RUNS[wildcards.run]),
        held_out=lambda wildcards: held_out_of(RUNS[wildcards.run]),
    output:
        report(
            "results/{run}/report.html",
            caption="../docs/captions/report.rst",
            category="{run}",
        ),
    log:
        "logs/{run}/report.log",
    conda:
        "../envs/gmmcore.yaml"
    params:
        logs=lambda wildcards: f"{prefix()}logs/{wildcards.run}",
    shell:
        "gmmcore report --settings {input.settings:q} --mixture {input.mixture:q}"
        " --stages {input.stages:q} --corpus {input.corpus:q} --held-out {input.held_out:q}"
        " --logs {params.logs:q} --output {output:q} --log {log:q}"


rule compare:
    input:
        settings=[RUN.format(run=run.name) for run in COMPARED],
        mixtures=[FINAL.format(run=run.name) for run in COMPARED],
        corpora=[corpus_of(run) for run in COMPARED],
        held_out=[held_out_of(run) for run in COMPARED if held_out_of(run)],
    output:
        report(
            f"results/{COMPARISON}",
            caption="../docs/captions/comparison.rst",
            category="comparison",
        ),
    log:
        "logs/comparison.log",
    conda:
        "../envs/gmmcore.yaml"
    params:
        held_out=[
            f"{prefix()}{path}" if (path := held_out_of(run)) else "-"
            for run in COMPARED
        ],
    shell:
        "gmmcore comparison --settings {input.settings:q} --mixtures {input.mixtures:q}"
        " --corpora {input.corpora:q} --held-out {params.held_out:q}"
        " --output {output:q} --log {log:q}"


# Products that are there are taken as they are: the sums of a damaged one would hide the damage.
rule checksums:
    input:
        settings=RUN,
        mixture=FINAL,
        products=lambda wildcards: [
            ancient(f"results/{wildcards.run}/{name}")
            for name in RUNS[wildcards.run].products
        ],
    output:
        "results/{run}/SHA256SUMS",
    log:
        "logs/{run}/checksums.log",
    conda:
        "../envs/gmmcore.yaml"
    shell:
        "gmmcore checksums {input.mixture:q} {input.products:q} --output {output:q} --log {log:q}"
