# requires  the last mixtures of the stages
# promises  results/<run>/ubm.h5, history.tsv     the final mixture, and the table of its iterations
#           results/<run>/ubm.<format>            exports, also of the sizes that are kept
#           results/<run>/recovery.txt            the comparison with the mixture of the demonstration
#           results/<run>/SHA256SUMS              the checksums of all these files
#           results/<run>/report.html             the training as plots and tables
#           results/comparison.tsv                all runs side by side, if there are two or more


# Exports and the comparison are no outputs, because only the configuration says which there are.
rule finish:
    input:
        run=RUN,
        settings=lambda wildcards: last_stage(SETTINGS, wildcards),
        mixture=lambda wildcards: last_stage(LAST, wildcards),
        corpus=lambda wildcards: corpora(RUNS[wildcards.run])[0],
        truth=truth_of,
    output:
        mixture=report(FINAL, caption="../docs/captions/mixture.rst", category="{run}"),
        history=report(
            "results/{run}/history.tsv",
            caption="../docs/captions/history.rst",
            category="{run}",
        ),
        sums="results/{run}/SHA256SUMS",
    log:
        "logs/{run}/finish.log",
    conda:
        "../envs/gmmcore.yaml"
    params:
        exports=exports_of,
        recovery=lambda wildcards, input: (
            ["--recovery", f"{prefix()}results/{wildcards.run}/recovery.txt"]
            if input.truth
            else []
        ),
    message:
        "{wildcards.run}: the final mixture and what is made of it"
    shell:
        "gmmcore products --settings {input.settings:q} --mixture {input.mixture:q}"
        " --corpus {input.corpus:q} --truth {input.truth:q} --output {output.mixture:q}"
        " --history {output.history:q} --exports {params.exports:q} {params.recovery:q}"
        " --checksums {output.sums:q} --log {log:q}"


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
    message:
        "{wildcards.name} in another format, {wildcards.format}"
    shell:
        "gmmcore convert {input:q} {output:q} --log {log:q}"


rule report:
    input:
        settings=RUN,
        mixture=FINAL,
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
        stages=lambda wildcards: stages_of(wildcards.run),
    message:
        "{wildcards.run}: the report"
    shell:
        "gmmcore report --settings {input.settings:q} --mixture {input.mixture:q}"
        " --stages {params.stages:q} --corpus {input.corpus:q} --held-out {input.held_out:q}"
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
    message:
        "the comparison of all runs"
    shell:
        "gmmcore comparison --settings {input.settings:q} --mixtures {input.mixtures:q}"
        " --corpora {input.corpora:q} --held-out {params.held_out:q}"
        " --output {output:q} --log {log:q}"
