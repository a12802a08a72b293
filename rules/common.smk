# The configuration, names of files, and small input functions. This file has no rules.

import os
import re
import shutil
import sys
from pathlib import Path

from gmmcore.config.keys import COMPARISON, EXPORTS
from gmmcore.data.check import shard_paths
from gmmcore.errors import GmmcoreError, one_line
from gmmcore.workflow.runs import corpus_id, made_lists, read_runs
from gmmcore.workflow.stage import mixture_path
from gmmcore.workflow.stamps import write_stamps
from gmmcore.workflow.status import following, is_long, is_written, needs, unfinished

# Jobs find the program also where the environment of Snakemake was not activated.
if shutil.which("gmmcore") is None:
    os.environ.update(
        PATH=os.pathsep.join([*os.get_exec_path(), os.path.dirname(sys.executable)])
    )

# envs/gmmcore.post-deploy.sh installs the program from the folder of the Snakefile. In jobs, a
# damaged file is removed, so that the same command makes it again.
os.environ.update(
    GMMCORE_SOURCE=os.path.dirname(str(workflow.current_basedir)), GMMCORE_JOB="1"
)

with one_line():
    RUNS = read_runs(config)

# The stages of all runs, by names such as demo/diag/64.
STAGES = {
    f"{run.name}/{stage.name}": (run, stage)
    for run in RUNS.values()
    for stage in run.plan
}
CORPORA = {
    name: features for run in RUNS.values() for name, features in run.corpora.items()
}
# Feature lists that the workflow makes, and their folders.
LISTS = {path for run in RUNS.values() for path in made_lists(run.settings)}
DEMOS = {os.path.dirname(path) for path in LISTS}
# Runs that are compared.
COMPARED = [run for run in RUNS.values() if run.pages]
COMPARED = COMPARED if len(COMPARED) > 1 else []

# Whether there are other machines than this one.
ON_CLUSTER = workflow.resource_settings.nodes is not None

TABLE = "results/features/{corpus}/shows.tsv"
SOURCE = "results/features/{corpus}/source.json"
CORPUS = "results/features/{corpus}/corpus.json"
SKIPPED = "results/features/{corpus}/skipped.tsv"
SETTINGS = "results/{stage}/settings.json"
FIRST = "results/{stage}/000.h5"
STATISTICS = "results/{stage}/{iteration}/{part}-of-{parts}.stats.h5"
LAST = "results/{stage}.h5"
RUN = "results/{run}/settings.json"
FINAL = "results/{run}/ubm.h5"
OF_MODELS, OF_SCORES = "results/{run}/models.json", "results/{run}/scores.json"
MODELS, SCORES = "results/{run}/models.h5", "results/{run}/scores.tsv"


def alternatives(values):
    """Make a wildcard constraint that allows these values; without any, it allows none."""
    return "|".join(map(re.escape, sorted(values))) or "(?!)"


def stages_where(is_wanted):
    """Make a constraint of `stage` from a function of a run and a stage."""
    return alternatives(name for name, pair in STAGES.items() if is_wanted(*pair))


wildcard_constraints:
    run=alternatives(RUNS),
    corpus=alternatives(CORPORA),
    stage=alternatives(STAGES),
    demo=alternatives(DEMOS),
    shard=r"\d+",
    digest="[0-9a-f]{12}",
    iteration=r"\d\d\d+",
    part=r"\d+",
    parts=r"\d+",


def prefix():
    """Return the prefix of all paths, if this workflow is a module of another one."""
    return str(rules.shows.output[0]).removesuffix(TABLE)


def part_of(wildcards, resources):
    """Say whether frames are held out; as a function of resources, it is not recorded."""
    return getattr(CORPORA[wildcards.corpus], "part", "training").replace("_", " ")


def list_of(wildcards):
    """Return the list of the features, if the workflow makes it."""
    return [*LISTS & {CORPORA[wildcards.corpus].list}]


def missing_shards(corpus):
    """Return the shards that are not there, which are known once the list is checked.

    Those that are there are in no graph, because there may be thousands.
    """
    table = checkpoints.shows.get(corpus=corpus).output[0]
    try:
        paths = [*shard_paths(table).values()]
    except GmmcoreError:
        return []  # The next job says that the table is damaged.
    return [path.removeprefix(prefix()) for path in paths if not os.path.exists(path)]


def wait_for_shards(wildcards):
    """Wait for the missing shards; they become no inputs, so that the inputs stay the same."""
    if missing_shards(wildcards.corpus):
        checkpoints.packed.get(**wildcards)
    return []


def dates(*paths):
    """Return when files were written, as a parameter of checkpoints whose outputs may be removed.

    Inputs may have the content that they had before, when Snakemake would not make them again.
    """
    paths = [f"{prefix()}{path}" for path in paths if path]
    return [os.stat(path).st_mtime_ns for path in paths if os.path.exists(path)]


def corpora(run):
    """Return the frames that a run trains on, and those that are held out, if there are any."""
    return expand(CORPUS, corpus=run.corpora)


def corpus_of(wildcards):
    """Return the frames that a stage reads."""
    return corpora(STAGES[wildcards.stage][0])[0]


def held_out_of(wildcards):
    """Return the held-out frames that the iterations of a stage read, if there are any."""
    run, stage = STAGES[wildcards.stage]
    return corpora(run)[1:] if stage.iterations else []


def last_stage(path, wildcards):
    """Return a file of the last stage of a run."""
    return path.format(stage=f"{wildcards.run}/{RUNS[wildcards.run].plan[-1].name}")


def last_before(wildcards):
    """Return the last mixture of the stage before, if there is one."""
    return before_stage(*STAGES[wildcards.stage])


def before_stage(run, stage):
    """Return the last mixture of the stage before one of a run, if there is one."""
    place = run.plan.index(stage)
    return f"results/{run.name}/{run.plan[place - 1].name}.h5" if place else []


def is_alone(run, stage):
    """Whether a stage has a job, or jobs, of its own: it may take long, and elsewhere."""
    return is_scattered(run, stage) or (ON_CLUSTER and is_long(run, stage))


def jobs_of(run):
    """Return the stages that each job of a run makes, in order."""
    jobs = [[run.plan[0]]]
    for stage in run.plan[1:]:
        if is_alone(run, stage) or is_alone(run, jobs[-1][0]):
            jobs.append([])
        jobs[-1].append(stage)
    return jobs


def made_together(stage):
    """Return the run of a stage, and the stages that the job of this stage makes, in order."""
    run, stage = STAGES[stage]
    (job,) = [job for job in jobs_of(run) if stage in job]
    return run, job[: job.index(stage) + 1]


def settings_of(wildcards):
    """Return the settings of all stages that the job of a stage makes."""
    run, stages = made_together(wildcards.stage)
    return [SETTINGS.format(stage=f"{run.name}/{stage.name}") for stage in stages]


def before_all(wildcards):
    """Return the last mixture before the stages that the job of a stage makes, if there is one."""
    run, stages = made_together(wildcards.stage)
    return before_stage(run, stages[0])


def first_of(wildcards):
    """Return the first mixture of a stage whose iterations are jobs; others make their own."""
    return FIRST if is_scattered(*STAGES[wildcards.stage]) else []


def to_make(wildcards, resources):
    """Name the stages that a job will make; as a function of resources, it is not recorded."""
    run, stages = made_together(wildcards.stage)
    rest = unfinished(run, f"{prefix()}results", copies=False)
    names = [f"{stage.kind} {stage.components}" for stage in stages if stage in rest]
    if len(names) > 2:
        names = [f"{names[0]} to {names[-1]}"]
    return " and ".join(names) or f"up to {stages[-1].name}, which are there"


def next_iteration(wildcards):
    """Request the next iteration of a stage whose iterations are jobs, as long as it goes on."""
    run, stage = STAGES[wildcards.stage]
    number = 1 if is_scattered(run, stage) and stage.iterations else None
    if number and os.path.exists(prefix() + FIRST.format(**wildcards)):
        getattr(checkpoints, stage.origin).get(**wildcards)
        number = following(run, stage, f"{prefix()}results")
    if number is None:
        return []
    return checkpoints.maximise.get(**wildcards, iteration=f"{number:03d}").output


def before(wildcards):
    """Return the file of the iteration before, in the same stage."""
    return mixture_path(f"results/{wildcards.stage}", int(wildcards.iteration) - 1)


def previous(wildcards):
    """Return the iteration before, unless it is there: nothing in the graph makes it again."""
    path = before(wildcards)
    is_made = int(wildcards.iteration) > 1 and os.path.exists(prefix() + path)
    return [] if is_made else path


def is_scattered(run, stage):
    """Whether the iterations of a stage are jobs, with statistics as files between them."""
    return run.settings.jobs != "auto" and (is_long(run, stage) or not ON_CLUSTER)


def threads(wildcards):
    """Return all cores; runs with small stages share them, so that they can run side by side."""
    small = STAGES[wildcards.stage][1].components < 64
    # On a cluster the profile says how many threads a job has.
    cores = workflow.resource_settings.cores or 1
    return max(1, cores // (len(RUNS) if small else 1))


def memory(wildcards, threads, attempt):
    """Return the megabytes that a job asks for."""
    return attempt * needs(*made_together(wildcards.stage), prefix(), threads).megabytes


def runtime(wildcards, threads, attempt):
    """Return the minutes that a job asks for."""
    return attempt * needs(*made_together(wildcards.stage), prefix(), threads).minutes


def gpus(wildcards):
    """Return how many GPUs a job asks for: the one of `device: cuda`, if a stage takes long."""
    run, stages = made_together(wildcards.stage)
    is_any_long = any(is_long(run, stage) for stage in stages)
    return int(run.settings.device == "cuda" and is_any_long)


def work(wildcards, resources):
    """Return arguments that decide no result; as a function of resources, they are not recorded."""
    device = "cuda" if gpus(wildcards) else "cpu"
    memory = STAGES[wildcards.stage][0].settings.memory
    return f"--device {device} --memory {memory}"


def short(wildcards, resources):
    """Name the stages of a job that are not worth the start of a GPU."""
    run, stages = made_together(wildcards.stage)
    return [stage.name for stage in stages if not is_long(run, stage)] * gpus(wildcards)


def final_components(wildcards, resources):
    """Return how many components a run ends with, of which the first mixture does not depend."""
    return STAGES[wildcards.stage][0].settings.components


def truth_of(wildcards):
    """Return the mixture that the demonstration is drawn from, if the run has one."""
    folder = RUNS[wildcards.run].settings.demo.folder
    return f"{folder}/truth.h5" if folder else []


def exports_of(wildcards):
    """Return the exports of a run, those of the sizes that are kept included."""
    run = RUNS[wildcards.run]
    names = [
        name for name in run.products if name not in ("history.tsv", "recovery.txt")
    ]
    return [f"{prefix()}results/{run.name}/{name}" for name in names]


def stages_of(run):
    """Return the last mixtures of all stages of a run, most of which are no outputs of rules."""
    return [f"{prefix()}results/{run}/{stage.name}.h5" for stage in RUNS[run].plan]


def sources(wildcards):
    """Return what decides the features of the lists of statistics of a run."""
    lists = RUNS[wildcards.run].lists
    return [SOURCE.format(corpus=corpus_id(features)) for features in lists.values()]


def statistics_of(wildcards):
    """Return the statistics that models and scores are made of."""
    names = RUNS[wildcards.run].lists
    return [f"results/{wildcards.run}/statistics/{name}.h5" for name in names]


def finished(runs):
    """Say where the results of runs are that are finished."""
    for run in runs.values():
        results, names = f"{prefix()}results", ["ubm.h5", *run.pages]
        if not unfinished(run, results) and is_written(run, results):
            files = " and ".join(f"{results}/{run.name}/{name}" for name in names)
            yield f"{run.name}: finished, see {files}"
