# requires  the last mixture of the last stage, and recovery.txt with a demonstration corpus
# promises  results/<run>/ubm.h5         the final mixture
#           results/<run>/history.tsv    the table of its iterations
#           results/<run>/ubm.<format>   the mixture in the format of another tool
#           results/<run>/<kind>/<components>.<format>  the same of a size that is kept
#           results/<run>/SHA256SUMS     the checksums of all these files
#           results/<run>/report.html    the training as plots and tables
#           results/comparison.tsv       all runs side by side, if there are two


rule finish:
    input:
        mixture=lambda wildcards: (
            f"results/{wildcards.run}/{RUNS[wildcards.run].plan[-1].name}.h5"
        ),
        again=again(FINAL),
    output:
        report(FINAL, caption="../docs/captions/mixture.rst", category="{run}"),
    log:
        "logs/{run}/finish.log",
    conda:
        "../envs/gmmcore.yaml"
    params:
        settings=lambda wildcards: words(RUNS[wildcards.run].settings.limits),
    shell:
        "gmmcore finish --mixture {input.mixture:q} {params.settings:q} --output {output:q}"
        " --log {log:q}"


rule history:
    input:
        mixture=FINAL,
        again=again("results/{run}/history.tsv"),
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
        mixture=exported,
        again=again("results/{run}/{name}.{format}"),
    output:
        "results/{run}/{name}.{format}",
    log:
        "logs/{run}/{name}.{format}.log",
    wildcard_constraints:
        name=alternatives(
            ["ubm", *(stage.name for run in RUNS.values() for stage in run.plan)]
        ),
        format=alternatives(name.removeprefix("ubm.") for name in EXPORTS.values()),
    conda:
        "../envs/gmmcore.yaml"
    params:
        format=lambda wildcards: next(
            name for name, file in EXPORTS.items() if file == f"ubm.{wildcards.format}"
        ),
    shell:
        "gmmcore convert {input.mixture:q} {output:q} --format {params.format} --log {log:q}"


rule report:
    input:
        mixture=FINAL,
        stages=stages_of_run,
        corpus=corpus_of_run,
        held_out=lambda wildcards: held_out_frames(RUNS[wildcards.run]),
        again=again("results/{run}/report.html"),
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
        settings=lambda wildcards: json.dumps(changed(RUNS[wildcards.run].settings)),
        logs=lambda wildcards: f"{prefix()}logs/{wildcards.run}",
        held_out=lambda wildcards: [
            f"--held-out={prefix()}{path}"
            for path in held_out_frames(RUNS[wildcards.run])
        ],
    shell:
        "gmmcore report --mixture {input.mixture:q} --stages {input.stages:q}"
        " --corpus {input.corpus:q} {params.held_out:q} --settings {params.settings:q} --logs {params.logs:q}"
        " --output {output:q} --log {log:q}"


rule compare:
    input:
        mixtures=[f"results/{run.name}/ubm.h5" for run in COMPARED],
        corpora=[f"results/features/{run.corpus}/corpus.json" for run in COMPARED],
        held_out=[path for run in COMPARED for path in held_out_frames(run)],
        again=again("results/comparison.tsv"),
    output:
        report(
            "results/comparison.tsv",
            caption="../docs/captions/comparison.rst",
            category="comparison",
        ),
    log:
        "logs/comparison.log",
    conda:
        "../envs/gmmcore.yaml"
    params:
        settings=lambda wildcards: json.dumps(
            {run.name: changed(run.settings) for run in COMPARED}
        ),
        held_out=lambda wildcards: [
            prefix() + path if path else "-"
            for run in COMPARED
            for path in held_out_frames(run) or [None]
        ],
    shell:
        "gmmcore comparison --mixtures {input.mixtures:q} --corpora {input.corpora:q}"
        " --held-out {params.held_out:q} --settings {params.settings:q}"
        " --output {output:q} --log {log:q}"


rule checksums:
    input:
        files=lambda wildcards: [
            f"results/{wildcards.run}/{name}"
            for name in ["ubm.h5", *RUNS[wildcards.run].products]
        ],
        again=again("results/{run}/SHA256SUMS"),
    output:
        "results/{run}/SHA256SUMS",
    log:
        "logs/{run}/checksums.log",
    conda:
        "../envs/gmmcore.yaml"
    shell:
        "gmmcore checksums {input.files:q} --output {output:q} --log {log:q}"
