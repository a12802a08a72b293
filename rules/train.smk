# requires  results/features/<corpus>/corpus.json and the shards beside it
# promises  results/<run>/<kind>/<components>/000.h5    the first mixture of a stage
#           results/<run>/<kind>/<components>/001.h5    and so on, the mixture after each iteration
#           results/<run>/<kind>/<components>.h5        the last mixture of a stage
#
# A stage has a kind of covariances and a number of components, such as diag/64.


rule initialise:
    input:
        corpus=corpus_of_run,
        source=initial_mixture,
        again=again(FIRST),
    output:
        FIRST,
    log:
        "logs/{run}/{stage}/000.log",
    wildcard_constraints:
        run=runs_with("initialise"),
    conda:
        "../envs/gmmcore.yaml"
    params:
        settings=lambda wildcards: words(RUNS[wildcards.run].initialise),
        source=lambda wildcards, input: ["--from", input.source] if input.source else [],
        components=lambda wildcards: RUNS[wildcards.run].settings.components,
    shell:
        "gmmcore initialise --corpus {input.corpus:q} {params.source:q}"
        " {params.settings:q} --components {params.components}"
        " --output {output:q} --log {log:q}"


rule split:
    input:
        mixture=last_of_stage_before,
        corpus=corpus_of_run,
        again=again(FIRST),
    output:
        FIRST,
    log:
        "logs/{run}/{stage}/000.log",
    wildcard_constraints:
        run=runs_with("split"),
    conda:
        "../envs/gmmcore.yaml"
    threads: threads
    params:
        components=lambda wildcards: RUNS[wildcards.run]
        .stage(wildcards.stage)
        .components,
        settings=lambda wildcards: words(RUNS[wildcards.run].settings.split),
    shell:
        "gmmcore split --mixture {input.mixture:q} --corpus {input.corpus:q}"
        " --components {params.components} {params.settings:q} --threads {threads}"
        " --output {output:q} --log {log:q}"


rule diag2full:
    input:
        mixture=last_of_stage_before,
        again=again(FIRST),
    output:
        FIRST,
    log:
        "logs/{run}/{stage}/000.log",
    wildcard_constraints:
        run=runs_with("diag2full"),
    conda:
        "../envs/gmmcore.yaml"
    shell:
        "gmmcore diag2full --mixture {input.mixture:q} --output {output:q} --log {log:q}"


# One job makes the missing iterations of a stage. They are no outputs, because Snakemake removes
# outputs before it starts a job; the job continues after those that are valid.
rule iterate:
    input:
        mixture=FIRST,
        corpus=corpus_of_run,
        held_out=held_out_of_run,
        twin=twin,
        scattered=scattered,
        again=again(LAST),
    output:
        LAST,
    log:
        "logs/{run}/{stage}.log",
    benchmark:
        "logs/{run}/{stage}.benchmark.tsv"
    wildcard_constraints:
        run=runs_with(),
    conda:
        "../envs/gmmcore.yaml"
    threads: threads
    resources:
        mem_mb=memory,
        frames_mb=kept_frames,
        device=device,
        gpu=devices,
        tasks_per_gpu=1,
        tasks=ranks,
        mpi=launcher,
        start=start,
        runtime=runtime,
    params:
        settings=maximising,
        twin=lambda wildcards, input: ["--twin", input.twin] if input.twin else [],
    shell:
        "gmmcore iterate --mixture {input.mixture:q} --corpus {input.corpus:q}"
        " {params.twin:q} {params.settings:q} {resources.device} --memory {resources.frames_mb}"
        " --threads {threads} --output {output:q} --log {log:q}"


# On a cluster, stages that take less than a minute are made on the submitting machine.
if ON_CLUSTER:

    use rule iterate as iterate_short with:
        wildcard_constraints:
            run=runs_with(is_wanted=is_local),

    ruleorder: iterate_short > iterate

    localrules:
        iterate_short,
