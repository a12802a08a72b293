# requires  results/<run>/<stage>/000.h5, and `jobs: N` in the configuration
# promises  results/<run>/<stage>/001.h5 ...    the mixture after each iteration, a job each
#           .../001/<part>-of-<parts>.stats.h5  the statistics of a part of the shards
#
# The other form of `iterate`: statistics are files between jobs, for clusters without MPI.

from gmmcore.corpus import Corpus
from gmmcore.resume import mixture_path, walk_iterations
from gmmcore.files import sealed_facts
from gmmcore.schedule import iteration_name

ITERATION = "results/{run}/{stage}/{iteration}.h5"
STATISTICS = "results/{run}/{stage}/{iteration}/{part}-of-{parts}.stats.h5"
SCATTERED = {name for name, run in RUNS.items() if run.config["jobs"] != "auto"}

# A chain of iterations is a chain of jobs, which Snakemake walks recursively.
sys.setrecursionlimit(100_000)


def scattered(wildcards):
    """The last iteration of a stage; asks for the next one as long as the stage goes on."""
    run = RUNS[wildcards.run]
    stage = run.stage(wildcards.stage)
    if run.name not in SCATTERED or not stage.iterations:
        return []
    folder = f"{prefix()}results/{run.name}/{stage.name}"
    last, complete = 0, False
    try:
        corpus = Corpus.read(f"{prefix()}{corpus_of_run(wildcards)}")
        first = sealed_facts(mixture_path(folder, 0), "mixture")["digest"]
        settings = run.digest("maximise", stage.kind)
        limits = (stage.iterations, float(run.config["llk_gain"]))
        walk = walk_iterations(folder, first, corpus.digest, settings, *limits)
        last, complete = walk.last, walk.complete
    except GmmcoreError:
        pass  # What the stage begins with is yet to be made.
    if complete:
        return ITERATION.format(iteration=iteration_name(last), **wildcards)
    return checkpoints.maximise.get(iteration=iteration_name(last + 1), **wildcards).output


def previous(wildcards):
    """The mixture before this one, in the same stage."""
    return mixture_path(
        f"results/{wildcards.run}/{wildcards.stage}", int(wildcards.iteration) - 1
    )


def statistics_of_iteration(wildcards):
    """The files of all E-step jobs of an iteration."""
    parts = RUNS[wildcards.run].config["jobs"]
    return expand(STATISTICS, part=range(parts), parts=parts, **wildcards)


rule accumulate:
    input:
        mixture=previous,
        corpus=corpus_of_run,
        again=again(STATISTICS),
    output:
        temp(STATISTICS),
    log:
        "logs/{run}/{stage}/{iteration}/{part}-of-{parts}.log",
    wildcard_constraints:
        run=alternatives(SCATTERED),
        iteration=r"\d{3,}",
        part=r"\d+",
        parts=r"\d+",
    conda:
        "../envs/gmmcore.yaml"
    resources:
        mem_mb=memory,
    params:
        settings=maximising,
        next=lambda wildcards, input: mixture_path(
            os.path.dirname(input.mixture), int(wildcards.iteration)
        ),
    shell:
        "gmmcore accumulate --mixture {input.mixture:q} --corpus {input.corpus:q}"
        " --part {wildcards.part} --parts {wildcards.parts} --unless {params.next:q}"
        " --settings {params.settings:q} --threads {threads} --output {output:q} 2>&1"
        " | tee {log:q}"


checkpoint maximise:
    input:
        mixture=previous,
        corpus=corpus_of_run,
        statistics=statistics_of_iteration,
        again=again(ITERATION),
    output:
        update(ITERATION),
    log:
        "logs/{run}/{stage}/{iteration}.log",
    wildcard_constraints:
        run=alternatives(SCATTERED),
        iteration=r"(?!000)\d{3,}",
    conda:
        "../envs/gmmcore.yaml"
    resources:
        mem_mb=memory,
    params:
        settings=maximising,
    shell:
        "gmmcore maximise --mixture {input.mixture:q} --corpus {input.corpus:q}"
        " --statistics {input.statistics:q} --settings {params.settings:q}"
        " --threads {threads} --output {output:q} 2>&1 | tee {log:q}"
