# requires  results/<run>/<stage>/000.h5, and `jobs: N` in the configuration
# promises  results/<run>/<stage>/001.h5 ...    the mixture after each iteration
#           .../001/<part>-of-<parts>.stats.h5  the statistics of a part of the shards
#
# These rules make the iterations instead of `iterate`: the E-step is shared among jobs, which write
# their statistics to files.


rule accumulate:
    input:
        previous=previous,
        corpus=corpus_of_run,
        held_out=held_out_of_run,
        again=again(STATISTICS),
    output:
        temp(STATISTICS),
    log:
        "logs/{run}/{stage}/{iteration}/{part}-of-{parts}.log",
    wildcard_constraints:
        run=alternatives(SCATTERED),
        iteration=r"\d\d\d+",
        part=r"\d+",
        parts=r"\d+",
    conda:
        "../envs/gmmcore.yaml"
    resources:
        mem_mb=memory,
        frames_mb=kept_frames,
        device=device,
        gpu=devices,
        tasks_per_gpu=1,
        runtime=runtime,
    params:
        settings=maximising,
        mixture=lambda wildcards: prefix() + before(wildcards),
        next=lambda wildcards: prefix() + ITERATION.format(**wildcards),
    shell:
        "gmmcore accumulate --mixture {params.mixture:q} --corpus {input.corpus:q}"
        " --part {wildcards.part} --parts {wildcards.parts} --unless {params.next:q}"
        " {params.settings:q} {resources.device} --memory {resources.frames_mb} --threads {threads}"
        " --output {output:q} --log {log:q}"


checkpoint maximise:
    input:
        previous=previous,
        corpus=corpus_of_run,
        held_out=held_out_of_run,
        statistics=statistics_of_iteration,
        again=again(ITERATION),
    output:
        update(ITERATION),
    log:
        "logs/{run}/{stage}/{iteration}.log",
    wildcard_constraints:
        run=alternatives(SCATTERED),
        iteration=r"(?!000)\d\d\d+",
    conda:
        "../envs/gmmcore.yaml"
    resources:
        mem_mb=memory,
        gpu=scoring_devices,
        tasks_per_gpu=1,
        runtime=runtime,
    params:
        settings=maximising,
        mixture=lambda wildcards: prefix() + before(wildcards),
    shell:
        "gmmcore maximise --mixture {params.mixture:q} --corpus {input.corpus:q}"
        " --statistics {input.statistics:q} {params.settings:q}"
        " --threads {threads} --output {output:q} --log {log:q}"


# It is short, unless a device that this machine may lack is to score held-out frames.
if not any(
    RUNS[name].settings.device == "cuda" and RUNS[name].held_out_corpus
    for name in SCATTERED
):

    localrules:
        maximise,
