# Iterations as jobs: which is the next one of a stage. This file has no rules.

from gmmcore.workflow.stage import mixture_path, walk_iterations


def walk(wildcards):
    """Follow the valid iterations of a stage; None if its first mixture is yet to be made."""
    run = RUNS[wildcards.run]
    stage = run.stage(wildcards.stage)
    folder = f"{prefix()}results/{run.name}/{stage.name}"
    first = mixture_path(folder, 0)
    write_notes()
    facts, fault = sealed_state(first)
    try:
        corpus, held_out = (
            read_corpus(prefix() + path) if path else None
            for path in [corpus_of_run(wildcards), held_out_of_run(wildcards)]
        )
    except GmmcoreError as error:
        fault = str(error)
    if fault or is_pending(first):
        return None
    settings = run.digest("maximise", stage.kind)
    course = run.course(stage, corpus)
    return walk_iterations(folder, facts["digest"], corpus, held_out, settings, course)


def scattered(wildcards):
    """Request the next iteration of a stage, as long as the stage goes on.

    Nothing in the graph makes the iterations that are there.
    """
    run = RUNS[wildcards.run]
    stage = run.stage(wildcards.stage)
    if run.name not in SCATTERED or not stage.iterations:
        return []
    if ON_CLUSTER and is_short(stage, run):
        return []  # One process makes the iterations.
    done = walk(wildcards)
    if done and done.complete:
        return []
    following = iteration_name(done.last + 1 if done else 1)
    return checkpoints.maximise.get(iteration=following, **wildcards).output


def before(wildcards):
    """Return the file of the iteration before, in the same stage."""
    return mixture_path(
        f"results/{wildcards.run}/{wildcards.stage}", int(wildcards.iteration) - 1
    )


def previous(wildcards):
    """Return the iteration before, if it is the stage's first mixture or yet to be made."""
    number = int(wildcards.iteration) - 1
    done = walk(wildcards) if number else None
    return [] if done and done.last >= number else before(wildcards)


def statistics_of_iteration(wildcards):
    """Return the files of all E-step jobs of an iteration."""
    parts = RUNS[wildcards.run].settings.jobs
    return expand(STATISTICS, part=range(parts), parts=parts, **wildcards)
