# requires  results/features/<corpus>/corpus.json and the shards beside it
# promises  results/<stage>/000.h5    the first mixture of a stage
#           results/<stage>/001.h5    and so on, the mixture after each iteration
#           results/<stage>.h5        the last mixture of a stage
#
# <stage> is a run, a kind of covariances and a number of components, such as demo/diag/64. The first
# mixtures are checkpoints: what a stage goes on from is known once its first mixture is current.


checkpoint initialise:
    input:
        settings=SETTINGS,
        corpus=corpus_of,
    output:
        FIRST,
    log:
        "logs/{stage}/000.log",
    wildcard_constraints:
        stage=stages_where(lambda run, stage: stage.origin == "initialise"),
    conda:
        "../envs/gmmcore.yaml"
    params:
        components=final_components,
    message:
        "{wildcards.stage}: the first mixture"
    shell:
        "gmmcore initialise --settings {input.settings:q} --corpus {input.corpus:q}"
        " --components {params.components} --output {output:q} --log {log:q}"


checkpoint split:
    input:
        settings=SETTINGS,
        mixture=last_before,
        corpus=corpus_of,
    output:
        FIRST,
    log:
        "logs/{stage}/000.log",
    wildcard_constraints:
        stage=stages_where(lambda run, stage: stage.origin == "split"),
    conda:
        "../envs/gmmcore.yaml"
    threads: threads
    message:
        "{wildcards.stage}: the first mixture"
    shell:
        "gmmcore split --settings {input.settings:q} --mixture {input.mixture:q}"
        " --corpus {input.corpus:q} --threads {threads} --output {output:q} --log {log:q}"


checkpoint diag2full:
    input:
        settings=SETTINGS,
        mixture=last_before,
    output:
        FIRST,
    log:
        "logs/{stage}/000.log",
    wildcard_constraints:
        stage=stages_where(lambda run, stage: stage.origin == "diag2full"),
    conda:
        "../envs/gmmcore.yaml"
    message:
        "{wildcards.stage}: the first mixture"
    shell:
        "gmmcore diag2full --settings {input.settings:q} --mixture {input.mixture:q}"
        " --output {output:q} --log {log:q}"


# One job makes this stage and the stages before that have no job of their own: their first mixtures,
# the missing iterations, and their last mixtures. What lies within is no output, because Snakemake
# removes outputs before it starts a job; the job continues after what is valid.
rule iterate:
    input:
        next_iteration,
        settings=settings_of,
        before=before_all,
        first=first_of,
        corpus=corpus_of,
        held_out=held_out_of,
    output:
        LAST,
    log:
        "logs/{stage}.log",
    conda:
        "../envs/gmmcore.yaml"
    threads: threads
    resources:
        mem_mb=memory,
        gpu=gpus,
        tasks_per_gpu=1,
        runtime=runtime,
    params:
        stages=to_make,
        components=final_components,
        work=work,
        short=short,
        times=lambda wildcards: f"{prefix()}logs/{STAGES[wildcards.stage][0].name}",
    message:
        "{wildcards.stage}: stages {params.stages} ({threads} threads,"
        " mem_mb={resources.mem_mb}, gpu={resources.gpu})"
    shell:
        "gmmcore stages --stages {input.settings:q} --before {input.before:q}"
        " --components {params.components} --corpus {input.corpus:q}"
        " --held-out {input.held_out:q} {params.work} --short {params.short}"
        " --threads {threads} --times {params.times:q}"
        " --log {log:q}"


# With `jobs: N`, these rules make the iterations of long stages: jobs that share the E-step write their
# statistics to files. Iterations that are there are in no graph.
rule accumulate:
    input:
        settings=SETTINGS,
        previous=previous,
        corpus=corpus_of,
        held_out=held_out_of,
    output:
        temp(STATISTICS),
    log:
        "logs/{stage}/{iteration}/{part}-of-{parts}.log",
    wildcard_constraints:
        stage=stages_where(is_scattered),
    conda:
        "../envs/gmmcore.yaml"
    resources:
        mem_mb=memory,
        gpu=gpus,
        tasks_per_gpu=1,
        runtime=runtime,
    params:
        mixture=lambda wildcards: prefix() + before(wildcards),
        work=work,
    message:
        "{wildcards.stage}: iteration {wildcards.iteration}, part {wildcards.part} ({threads} threads,"
        " mem_mb={resources.mem_mb}, gpu={resources.gpu})"
    shell:
        "gmmcore accumulate --settings {input.settings:q} --mixture {params.mixture:q}"
        " --corpus {input.corpus:q} --held-out {input.held_out:q}"
        " --part {wildcards.part} --parts {wildcards.parts} {params.work} --threads {threads}"
        " --output {output:q} --log {log:q}"


# The inputs are all that iterations depend on, because the iteration before is none once it is there.
checkpoint maximise:
    input:
        settings=SETTINGS,
        first=FIRST,
        previous=previous,
        corpus=corpus_of,
        held_out=held_out_of,
        statistics=lambda wildcards: expand(
            STATISTICS,
            part=range(STAGES[wildcards.stage][0].settings.jobs),
            parts=STAGES[wildcards.stage][0].settings.jobs,
            **wildcards,
        ),
    output:
        "results/{stage}/{iteration}.h5",
    log:
        "logs/{stage}/{iteration}.log",
    wildcard_constraints:
        stage=stages_where(is_scattered),
    conda:
        "../envs/gmmcore.yaml"
    resources:
        mem_mb=memory,
        # It scores held-out frames where the statistics are taken.
        gpu=lambda wildcards: gpus(wildcards) if held_out_of(wildcards) else 0,
        tasks_per_gpu=1,
        runtime=runtime,
    params:
        mixture=lambda wildcards: prefix() + before(wildcards),
        work=work,
        dates=lambda wildcards: dates(
            SETTINGS.format(**wildcards),
            FIRST.format(**wildcards),
            corpus_of(wildcards),
            *held_out_of(wildcards),
        ),
    message:
        "{wildcards.stage}: iteration {wildcards.iteration} ({threads} threads,"
        " mem_mb={resources.mem_mb}, gpu={resources.gpu})"
    shell:
        "gmmcore maximise --settings {input.settings:q} --mixture {params.mixture:q}"
        " --corpus {input.corpus:q} --held-out {input.held_out:q} {params.work}"
        " --statistics {input.statistics:q} --threads {threads} --output {output:q} --log {log:q}"


ruleorder: initialise > split > diag2full > maximise


# On a cluster, stages that take less than a minute are made on the submitting machine.
if ON_CLUSTER:

    use rule iterate as iterate_short with:
        wildcard_constraints:
            stage=stages_where(lambda *one: is_scattered(*one) or not is_long(*one)),

    ruleorder: iterate_short > iterate

    localrules:
        iterate_short,


# It is short, unless a GPU that this machine may lack is to score held-out frames.
if not any(
    run.settings.device == "cuda" and run.held_out_corpus for run in RUNS.values()
):

    localrules:
        maximise,
