# The configuration, and small input functions. This file has no rules and no arithmetic.

import contextlib
import json
import os
import re
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import gmmcore
from gmmcore.config.configuration import changed
from gmmcore.data.corpus import Corpus
from gmmcore.data.check import shard_paths
from gmmcore.core.schedule import megabytes, seconds
from gmmcore.config.keys import DemoSettings
from gmmcore.errors import GmmcoreError
from gmmcore.files import remembered
from gmmcore.config.options import mapping, words
from gmmcore.workflow.runs import made_lists, read_runs
from gmmcore.core.schedule import Course, iteration_name
from gmmcore.config.keys import COMPARISON, EXPORTS
from gmmcore.workflow.verified import recall, remember, sealed_state

# A closed pipe, as in `snakemake | head`, ends Snakemake. Otherwise it would wait for ever, because
# the thread that meets the closed pipe is not the one that waits for the jobs.
with contextlib.suppress(ValueError):  # Snakemake itself may run in a thread.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)

try:
    RUNS = read_runs(config)
except GmmcoreError as error:
    sys.exit(f"gmmcore: error: {error}")

# Jobs find the program also where the environment of Snakemake was not activated.
if shutil.which("gmmcore") is None:
    os.environ.update(
        PATH=os.pathsep.join([*os.get_exec_path(), os.path.dirname(sys.executable)])
    )

# envs/gmmcore.post-deploy.sh installs this checkout, or the release that is in use.
PROJECT = Path(gmmcore.__file__).parents[1]
RELEASE = f"gmmcore=={gmmcore.__version__}"
os.environ.update(
    GMMCORE_SOURCE=str(PROJECT) if (PROJECT / "pyproject.toml").exists() else RELEASE
)

CORPORA = {
    name: features for run in RUNS.values() for name, features in run.corpora.items()
}
DEMOS = {
    run.settings.demo.folder: run.settings
    for run in RUNS.values()
    if run.settings.demo.folder
}
# Feature lists that the workflow makes.
LISTS = {
    path: recipe
    for run in RUNS.values()
    for path, recipe in made_lists(run.settings).items()
}

TABLE = "results/features/{corpus}/shows.tsv"
FIRST = "results/{run}/{stage}/000.h5"
LAST = "results/{run}/{stage}.h5"
ITERATION = "results/{run}/{stage}/{iteration}.h5"
STATISTICS = "results/{run}/{stage}/{iteration}/{part}-of-{parts}.stats.h5"
FINAL = "results/{run}/ubm.h5"

# Runs that are compared.
COMPARED = [run for run in RUNS.values() if run.pages]
COMPARED = COMPARED if len(COMPARED) > 1 else []

# Runs whose statistics are files between jobs. Their iterations are a chain of jobs, which
# Snakemake follows recursively.
SCATTERED = {name for name, run in RUNS.items() if run.settings.jobs != "auto"}
sys.setrecursionlimit(100_000)

# Whether there are other machines than this one.
ON_CLUSTER = workflow.resource_settings.nodes is not None

# Frames and dimension of a corpus that is not made yet.
UNKNOWN = (10**9, 60)

# The first run with a stage makes it, and the others copy its iterations.
MAKERS = {}
for run in RUNS.values():
    for stage in run.plan:
        MAKERS.setdefault((run.recipe(stage), run.settings.device), run)


read_corpus = remembered(Corpus.read)


def literal(path):
    """Escape a path from the configuration, so that Snakemake sees no wildcards in it."""
    return path.replace("{", "{{").replace("}", "}}")


def alternatives(values):
    """Make a wildcard constraint that allows these values; without any, it allows none."""
    return "|".join(map(re.escape, values)) or "(?!)"


def runs_with(origin=None, is_wanted=lambda stage, run: True):
    """Make a constraint of `run`: the run has the stage that follows, with this origin if given."""
    return (
        "|".join(
            rf"{re.escape(run.name)}(?=/{stage.name}\b)"
            for run in RUNS.values()
            for stage in run.plan
            if origin in (None, stage.origin) and is_wanted(stage, run)
        )
        or "(?!)"
    )


def prefix():
    """Return the prefix of all paths, if this workflow is a module of another one."""
    return str(rules.shows.output[0]).removesuffix(TABLE)


def features_of(corpus):
    """Return the settings of the features of a corpus, with the prefix for a list that is made."""
    features = CORPORA[corpus]
    if features.list not in LISTS:
        return features
    return replace(features, list=prefix() + features.list)


def maximising(wildcards):
    """Return the settings of the iterations of a stage, as arguments."""
    run = RUNS[wildcards.run]
    stage = run.stage(wildcards.stage)
    held_out = held_out_of_run(wildcards)
    return [
        f"--iterations={stage.iterations}",
        *(["--final"] if stage.final else []),
        *([f"--held-out={prefix()}{held_out}"] if held_out else []),
        *words(run.settings.limits),
        *words(run.settings.iteration(stage.kind)),
    ]


def stages_of_run(wildcards):
    """Return the last mixtures of all stages of a run."""
    plan = RUNS[wildcards.run].plan
    return [f"results/{wildcards.run}/{stage.name}.h5" for stage in plan]


def exported(wildcards):
    """Return the mixture that an export is made from: the final one, or that of a stage."""
    return f"results/{wildcards.run}/{wildcards.name}.h5"


def course_with(stage, run, corpus):
    """Return what the iterations of a stage read of so many frames of a dimension."""
    frames, dimension = corpus
    limits = mapping(run.settings.limits)
    return Course.of(stage, frames=frames, dimension=dimension, **limits)


def made_corpus(run):
    """Return the frames and the dimension of a corpus."""
    try:
        corpus = read_corpus(f"{prefix()}results/features/{run.corpus}/corpus.json")
    except GmmcoreError:
        return UNKNOWN
    return corpus.frames, corpus.dimension


def memory(wildcards, threads, attempt):
    """Return the megabytes that a mixture, its statistics and frames need."""
    run = RUNS[wildcards.run]
    stage = run.stage(wildcards.stage)
    corpus = made_corpus(run)
    course = course_with(stage, run, corpus)
    frames, components, dimension, full = course.largest(*corpus)
    processes = ranks(wildcards)
    most = processes * run.settings.memory * 1_000_000 // (4 * dimension)
    return attempt * megabytes(
        components,
        dimension,
        full=full,
        workers=processes * threads,
        kept=min(frames, most) if corpus != UNKNOWN else 0,
        devices=devices(wildcards),
    )


def runtime(wildcards, threads, attempt):
    """Return the minutes that a stage may take; what it has done by then is kept."""
    run = RUNS[wildcards.run]
    stage = run.stage(wildcards.stage)
    corpus = made_corpus(run)
    *sizes, full = course_with(stage, run, corpus).largest(*corpus)
    workers = ranks(wildcards) * threads
    wanted = 2 * stage.iterations * seconds(*sizes, full=full) / workers
    return attempt * (10 + int(wanted / 60))


def is_short(stage, run):
    """Whether a stage takes less than a minute on one core, whatever corpus there will be."""
    return not course_with(stage, run, UNKNOWN).takes_long(*UNKNOWN)


def device(wildcards):
    """Return the argument that says what computes a stage, if it takes long."""
    run = RUNS[wildcards.run]
    is_free = is_short(run.stage(wildcards.stage), run)
    return "" if is_free else f"--device={run.settings.device}"


def devices(wildcards):
    """Return how many graphics processors a job asks a cluster for: one for each rank."""
    return ranks(wildcards) if device(wildcards) == "--device=cuda" else 0


def is_local(stage, run):
    """Whether a stage is made on the submitting machine; with `jobs: N`, its copy is."""
    return run.name in SCATTERED or is_short(stage, run)


def threads(wildcards):
    """Return all cores; runs with small stages share them, so that they can run side by side."""
    small = RUNS[wildcards.run].stage(wildcards.stage).components < 64
    # On a cluster the profile says how many threads a job has.
    cores = workflow.resource_settings.cores or 1
    return max(1, cores // (len(RUNS) if small else 1))


def kept_frames(wildcards):
    """Return the megabytes of frames that a job keeps in memory."""
    return RUNS[wildcards.run].settings.memory


def ranks(wildcards):
    """Return the number of MPI ranks that share a stage; small stages have one."""
    return 1


def launcher(wildcards):
    """Return the command that starts MPI ranks, if a stage has several."""
    return RUNS[wildcards.run].settings.mpi.launcher if ranks(wildcards) > 1 else None


def start(wildcards):
    """Return the beginning of the command line that starts several ranks."""
    command = launcher(wildcards)
    return f"{command} -n {ranks(wildcards)}" if command else ""


def scoring_devices(wildcards):
    """Return how many graphics processors a job needs to score held-out frames."""
    return devices(wildcards) if held_out_of_run(wildcards) else 0


def demo_settings(wildcards):
    """Return the settings of a demonstration corpus, as arguments."""
    settings = DEMOS[wildcards.demo]
    return [f"--seed={settings.seed}", *words(settings.demo, DemoSettings)]


def corpus_settings(wildcards):
    """Return the settings of the features of a corpus, as arguments."""
    return words(features_of(wildcards.corpus))


def shards_of_corpus(wildcards):
    """Return the shards, which are known once the list is checked."""
    table = checkpoints.shows.get(**wildcards).output[0]
    if not os.path.exists(table):
        return []  # This is `--touch`, and nothing was made yet.
    return [
        literal(path.removeprefix(prefix())) for path in shard_paths(table).values()
    ]


def corpus_of_run(wildcards):
    """Return the corpus that a run trains on."""
    return f"results/features/{RUNS[wildcards.run].corpus}/corpus.json"


def held_out_of_run(wildcards):
    """Return the held-out frames of a run, if there are any and the stage has iterations."""
    run = RUNS[wildcards.run]
    if run.held_out_corpus is None or not run.stage(wildcards.stage).iterations:
        return []
    return f"results/features/{run.held_out_corpus}/corpus.json"


def held_out_frames(run):
    """Return the held-out frames of a run, in a list that is empty if there are none."""
    name = run.held_out_corpus
    return [] if name is None else [f"results/features/{name}/corpus.json"]


def initial_mixture(wildcards):
    """Return the initial mixture of a run, if the configuration names one."""
    path = RUNS[wildcards.run].settings.init.from_
    return local(literal(path)) if path else []


def last_of_stage_before(wildcards):
    """Return the last mixture of the stage before."""
    run = RUNS[wildcards.run]
    return f"results/{run.name}/{run.before(run.stage(wildcards.stage)).name}.h5"


def twin(wildcards):
    """Return the same stage of another run, if that run makes the iterations of both."""
    run = RUNS[wildcards.run]
    recipe = run.recipe(run.stage(wildcards.stage))
    maker = MAKERS[recipe, run.settings.device]
    if maker is run or {run.settings.jobs, maker.settings.jobs} != {"auto"}:
        return []
    return f"results/{maker.name}/{wildcards.stage}.h5"


wildcard_constraints:
    run=alternatives(RUNS),
    corpus=alternatives(CORPORA),
    stage=alternatives(stage.name for run in RUNS.values() for stage in run.plan),
