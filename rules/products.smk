# requires  the last mixture of the last stage, and recovery.txt with a demonstration corpus
# promises  results/<run>/ubm.h5         the final mixture
#           results/<run>/history.tsv    the table of its iterations
#           results/<run>/ubm.<format>   the mixture in the format of another tool
#           results/<run>/report.html    the history of the training, with plots
#           results/<run>/SHA256SUMS     the checksums of all these files


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
    shell:
        "gmmcore finish --mixture {input.mixture:q} --output {output:q} --log {log:q}"


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
        mixture=FINAL,
        again=again("results/{run}/ubm.{format}"),
    output:
        "results/{run}/ubm.{format}",
    log:
        "logs/{run}/ubm.{format}.log",
    wildcard_constraints:
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
    shell:
        "gmmcore report --mixture {input.mixture:q} --output {output:q} --log {log:q}"


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
