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
        corpus=corpus_of_stage,
    output:
        FIRST,
    log:
        "logs/{stage}/000.log",
    wildcard_constraints:
        stage=stages_where(lambda run, stage: stage.origin == "initialise"),
    conda:
        "../envs/gmmcore.yaml"
    params:
        components=lambda wildcards: STAGES[wildcards.stage][0].settings.components,
        # Its digest is in the settings; the file is the user's.
        source=lambda wildcards: STAGES[wildcards.stage][0].settings.init.from_ or [],
    shell:
        "gmmcore initialise --settings {input.settings:q} --corpus {input.corpus:q}"
        " --from {params.source:q} --components {params.components}"
        " --output {output:q} --log {log:q}"


checkpoint split:
    input:
        settings=SETTINGS,
        mixture=last_before,
        corpus=corpus_of_stage,
    output:
        FIRST,
    log:
        "logs/{stage}/000.log",
    wildcard_constraints:
        stage=stages_where(lambda run, stage: stage.origin == "split"),
    conda:
        "../envs/gmmcore.yaml"
    threads: threads
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
    shell:
        "gmmcore diag2full --settings {input.settings:q} --mixture {input.mixture:q}"
        " --output {output:q} --log {log:q}"


# One job makes the missing iterations of a stage. They are no outputs, because Snakemake removes
# outputs before it starts a job; the job continues after those that are valid.
rule iterate:
    input:
        next_iteration,
        settings=SETTINGS,
        mixture=FIRST,
        before=last_before,
        corpus=corpus_of_stage,
        held_out=held_out_of_stage,
    output:
        LAST,
    log:
        "logs/{stage}.log",
    benchmark:
        "logs/{stage}.benchmark.tsv"
    conda:
        "../envs/gmmcore.yaml"
    threads: threads
    resources:
        mem_mb=memory,
        frames_mb=kept_frames,
        gpu=gpus,
        tasks_per_gpu=1,
        runtime=runtime,
    params:
        # It does not decide what is valid: as a function of resources, it is not recorded.
        device=lambda wildcards, resources: device(wildcards),
    shell:
        "gmmcore iterate --settings {input.settings:q} --mixture {input.mixture:q}"
        " --before {input.before:q} --corpus {input.corpus:q} --held-out {input.held_out:q}"
        " --device {params.device} --memory {resources.frames_mb} --threads {threads}"
        " --output {output:q} --log {log:q}"


# On a cluster, stages that take less than a minute are made on the submitting machine.
if ON_CLUSTER:

    use rule iterate as iterate_short with:
        wildcard_constraints:
            stage=stages_where(is_local),

    ruleorder: iterate_short > iterate

    localrules:
        iterate_short,
