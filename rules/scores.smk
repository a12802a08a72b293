# requires  results/<run>/ubm.h5, and the lists of `statistics` and `verification`
# promises  results/<run>/statistics/<name>.h5    statistics of the shows of a list
#           results/<run>/models.h5               adapted means
#           results/<run>/scores.tsv, scores.h5   the scores of trials, as text and as SIDEKIT's file
#
# A list is checked when its statistics are computed. source.json says what its features are, and
# models.json and scores.json have the digests of the lists of models and trials.


rule statistics:
    input:
        settings=lambda wildcards: SOURCE.format(
            corpus=corpus_id(RUNS[wildcards.run].lists[wildcards.name])
        ),
        list=lambda wildcards: [
            *LISTS & {RUNS[wildcards.run].lists[wildcards.name].list}
        ],
        mixture=FINAL,
    output:
        "results/{run}/statistics/{name}.h5",
    log:
        "logs/{run}/statistics/{name}.log",
    wildcard_constraints:
        name=alternatives({name for run in RUNS.values() for name in run.lists}),
    conda:
        "../envs/gmmcore.yaml"
    threads: workflow.resource_settings.cores or 1
    resources:
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        precision=lambda wildcards: RUNS[wildcards.run].settings.precision,
    message:
        "{wildcards.run}: statistics of the shows of {wildcards.name}"
    shell:
        "gmmcore statistics --settings {input.settings:q} --mixture {input.mixture:q}"
        " --precision {params.precision} --threads {threads} --output {output:q} --log {log:q}"


rule adapt:
    input:
        settings=OF_MODELS,
        mixture=FINAL,
        statistics=statistics_of,
    output:
        MODELS,
    log:
        "logs/{run}/models.log",
    conda:
        "../envs/gmmcore.yaml"
    message:
        "{wildcards.run}: adapted means"
    shell:
        "gmmcore adapt --settings {input.settings:q} --mixture {input.mixture:q}"
        " --statistics {input.statistics:q} --output {output:q} --log {log:q}"


rule trials:
    input:
        settings=OF_SCORES,
        mixture=FINAL,
        models=MODELS,
        statistics=statistics_of,
        features=lambda wildcards: (
            sources(wildcards)
            if RUNS[wildcards.run].settings.verification.scoring == "ratio"
            else []
        ),
    output:
        scores=SCORES,
        matrix="results/{run}/scores.h5",
    log:
        "logs/{run}/scores.log",
    conda:
        "../envs/gmmcore.yaml"
    threads: workflow.resource_settings.cores or 1
    resources:
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        precision=lambda wildcards: RUNS[wildcards.run].settings.precision,
    message:
        "{wildcards.run}: scores of trials"
    shell:
        "gmmcore trials --settings {input.settings:q} --mixture {input.mixture:q}"
        " --models {input.models:q} --statistics {input.statistics:q}"
        " --features {input.features:q} --precision {params.precision} --threads {threads}"
        " --matrix {output.matrix:q} --output {output.scores:q} --log {log:q}"
