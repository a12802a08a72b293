# requires  results/<stage>/000.h5, and `jobs: N` in the configuration
# promises  results/<stage>/001.h5 ...          the mixture after each iteration
#           .../001/<part>-of-<parts>.stats.h5  the statistics of a part of the frames
#
# These rules make the iterations instead of `iterate`: the E-step is shared among jobs, which write
# their statistics to files. Iterations that are there are in no graph.


rule accumulate:
    input:
        settings=SETTINGS,
        previous=previous,
        corpus=corpus_of_stage,
        held_out=held_out_of_stage,
    output:
        temp(STATISTICS),
    log:
        "logs/{stage}/{iteration}/{part}-of-{parts}.log",
    wildcard_constraints:
        stage=stages_where(is_scattered),
        iteration=r"\d\d\d+",
        part=r"\d+",
        parts=r"\d+",
    conda:
        "../envs/gmmcore.yaml"
    resources:
        mem_mb=memory,
        frames_mb=kept_frames,
        gpu=gpus,
        tasks_per_gpu=1,
        runtime=runtime,
    params:
        mixture=lambda wildcards: prefix() + before(wildcards),
        device=lambda wildcards, resources: device(wildcards),
    shell:
        "gmmcore accumulate --settings {input.settings:q} --mixture {params.mixture:q}"
        " --corpus {input.corpus:q} --held-out {input.held_out:q}"
        " --part {wildcards.part} --parts {wildcards.parts} --device {params.device}"
        " --memory {resources.frames_mb} --threads {threads} --output {output:q} --log {log:q}"


# The inputs are all that iterations depend on, because the iteration before is none once it is there.
checkpoint maximise:
    input:
        settings=SETTINGS,
        first=FIRST,
        previous=previous,
        corpus=corpus_of_stage,
        held_out=held_out_of_stage,
        statistics=lambda wildcards: expand(
            STATISTICS,
            part=range(STAGES[wildcards.stage][0].settings.jobs),
            parts=STAGES[wildcards.stage][0].settings.jobs,
            **wildcards,
        ),
    output:
        ITERATION,
    log:
        "logs/{stage}/{iteration}.log",
    wildcard_constraints:
        stage=stages_where(is_scattered),
        iteration=r"\d\d\d+",
    conda:
        "../envs/gmmcore.yaml"
    resources:
        mem_mb=memory,
        # It scores held-out frames where the statistics are taken.
        gpu=lambda wildcards: gpus(wildcards) if held_out_of_stage(wildcards) else 0,
        tasks_per_gpu=1,
        runtime=runtime,
    params:
        mixture=lambda wildcards: prefix() + before(wildcards),
        device=lambda wildcards, resources: device(wildcards),
        dates=lambda wildcards: dates(
            SETTINGS.format(**wildcards),
            FIRST.format(**wildcards),
            corpus_of_stage(wildcards),
            held_out_of_stage(wildcards),
        ),
    shell:
        "gmmcore maximise --settings {input.settings:q} --mixture {params.mixture:q}"
        " --corpus {input.corpus:q} --held-out {input.held_out:q} --device {params.device}"
        " --statistics {input.statistics:q} --threads {threads} --output {output:q} --log {log:q}"


# 000.h5 is no iteration.
ruleorder: initialise > split > diag2full > maximise


# It is short, unless a GPU that this machine may lack is to score held-out frames.
if not any(
    run.settings.device == "cuda" and run.held_out_corpus for run in RUNS.values()
):

    localrules:
        maximise,
