# requires  the last mixtures of the stages
# promises  results/<run>/ubm.h5, history.tsv     the final mixture, and the table of its iterations
#           results/<run>/ubm.<format>            exports, also of the sizes that are kept
#           results/<run>/recovery.txt            the comparison with the mixture of the demonstration
#           results/<run>/SHA256SUMS              the checksums of all these files
#           results/<run>/report.html             the training as plots and tables
#           results/comparison.tsv                all runs side by side, if there are two or more


rule finish:
    input:
        settings=lambda wildcards: last_stage(SETTINGS, wildcards),
        mixture=lambda wildcards: last_stage(LAST, wildcards),
    output:
        mixture=report(FINAL, caption="../docs/captions/mixture.rst", category="{run}"),
        history=report(
            "results/{run}/history.tsv",
            caption="../docs/captions/history.rst",
            category="{run}",
        ),
    log:
        "logs/{run}/finish.log",
    conda:
        "../envs/gmmcore.yaml"
    shell:
        "gmmcore finish --settings {input.settings:q} --mixture {input.mixture:q}"
        " --output {output.mixture:q} --history {output.history:q} --log {log:q}"


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
    shell:
        "gmmcore convert {input:q} {output:q} --log {log:q}"


rule recovery:
    input:
        truth=lambda wildcards: f"{RUNS[wildcards.run].settings.demo.folder}/truth.h5",
        mixture=FINAL,
        corpus=lambda wildcards: corpora(RUNS[wildcards.run])[0],
    output:
        "results/{run}/recovery.txt",
    log:
        "logs/{run}/recovery.log",
    wildcard_constraints:
        run=alternatives(name for name, run in RUNS.items() if run.settings.demo.folder),
    conda:
        "../envs/gmmcore.yaml"
    shell:
        "gmmcore recovery --truth {input.truth:q} --mixture {input.mixture:q}"
        " --corpus {input.corpus:q} --output {output:q} --log {log:q}"


rule report:
    input:
        settings=RUN,
        mixture=FINAL,
        stages=lambda wildcards: [
            f"results/{wildcards.run}/{stage.name}.h5"
            for stage in RUNS[wildcards.run].plan
        ],
        corpus=lambda wildcards: corpora(RUNS[wildcards.run])[0],
        held_out=lambda wildcards: corpora(RUNS[wildcards.run])[1:],
        scores=lambda wildcards: expand(
            SCORES,
            run=[wildcards.run] * ("scores.tsv" in RUNS[wildcards.run].scores),
        ),
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
        " --scores {input.scores:q} --logs {params.logs:q} --output {output:q} --log {log:q}"


rule compare:
    input:
        settings=[RUN.format(run=run.name) for run in COMPARED],
        mixtures=[FINAL.format(run=run.name) for run in COMPARED],
        corpora=[corpora(run)[0] for run in COMPARED],
        held_out=[path for run in COMPARED for path in corpora(run)[1:]],
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
            next((prefix() + path for path in corpora(run)[1:]), "-")
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
        last=lambda wildcards: last_stage(LAST, wildcards),
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
        "gmmcore checksums {input.mixture:q} {input.products:q} --last {input.last:q}"
        " --output {output:q} --log {log:q}"
