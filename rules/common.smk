# The configuration, names of files, and small input functions. This file has no rules.

import contextlib
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import gmmcore
from gmmcore.config.keys import COMPARISON, EXPORTS
from gmmcore.core.schedule import LONG_SECONDS
from gmmcore.data.check import shard_paths
from gmmcore.data.corpus import Corpus
from gmmcore.errors import GmmcoreError
from gmmcore.files import remembered
from gmmcore.workflow.stage import header_state, mixture_path, walk_iterations
from gmmcore.workflow.runs import made_lists, read_runs
from gmmcore.workflow.stamps import write_stamps
from gmmcore.workflow.status import Frames, cost

# A closed pipe, as in `snakemake | head`, ends Snakemake. Otherwise it would wait for ever, because
# the thread that meets the closed pipe is not the one that waits for the jobs.
with contextlib.suppress(ValueError):  # Snakemake itself may run in a thread.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)

# Jobs find the program also where the environment of Snakemake was not activated.
if shutil.which("gmmcore") is None:
    os.environ.update(
        PATH=os.pathsep.join([*os.get_exec_path(), os.path.dirname(sys.executable)])
    )

# envs/gmmcore.post-deploy.sh installs this checkout, or the release that is in use.
PROJECT = Path(gmmcore.__file__).parents[1]
RELEASE = f"gmmcore=={gmmcore.__version__}"
# In jobs, a damaged file is removed, so that the same command makes it again.
os.environ.update(
    GMMCORE_SOURCE=str(PROJECT) if (PROJECT / "pyproject.toml").exists() else RELEASE,
    GMMCORE_JOB="1",
)


@contextlib.contextmanager
def one_line_for_errors():
    """End Snakemake with the line of an error, without a traceback."""
    try:
        yield
    except GmmcoreError as error:
        sys.exit(f"gmmcore: error: {error}")


with one_line_for_errors():
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
# Feature lists that the workflow makes.
LISTS = {path for run in RUNS.values() for path in made_lists(run.settings)}
DEMOS = [os.path.dirname(path) for path in sorted(LISTS)]
# Runs that are compared.
COMPARED = [run for run in RUNS.values() if run.pages]
COMPARED = COMPARED if len(COMPARED) > 1 else []

# Whether there are other machines than this one, and a corpus that is not made yet.
ON_CLUSTER = workflow.resource_settings.nodes is not None
UNKNOWN = Frames(10**9, 60)

TABLE = "results/features/{corpus}/shows.tsv"
SOURCE = "results/features/{corpus}/source.json"
CORPUS = "results/features/{corpus}/corpus.json"
SETTINGS = "results/{stage}/settings.json"
FIRST = "results/{stage}/000.h5"
ITERATION = "results/{stage}/{iteration}.h5"
STATISTICS = "results/{stage}/{iteration}/{part}-of-{parts}.stats.h5"
LAST = "results/{stage}.h5"
RUN = "results/{run}/settings.json"
FINAL = "results/{run}/ubm.h5"

read_corpus = remembered(Corpus.read)


def literal(path):
    """Escape a path from the configuration, so that Snakemake sees no wildcards in it."""
    return path.replace("{", "{{").replace("}", "}}")


def alternatives(values):
    """Make a wildcard constraint that allows these values; without any, it allows none."""
    return "|".join(map(re.escape, values)) or "(?!)"


def stages_where(is_wanted):
    """Make a constraint of `stage` from a function of a run and a stage."""
    return alternatives(name for name, pair in STAGES.items() if is_wanted(*pair))


def prefix():
    """Return the prefix of all paths, if this workflow is a module of another one."""
    return str(rules.shows.output[0]).removesuffix(TABLE)


def missing_shards(corpus):
    """Return the shards that are not there, which are known once the list is checked.

    Those that are there are in no graph, because there may be thousands.
    """
    table = checkpoints.shows.get(corpus=corpus).output[0]
    try:
        paths = shard_paths(table).values()
    except GmmcoreError:
        return []  # The next job says that the table is damaged.
    return [
        literal(path.removeprefix(prefix()))
        for path in paths
        if not os.path.exists(path)
    ]


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


def corpus_of(run):
    """Return the corpus that a run trains on."""
    return CORPUS.format(corpus=run.corpus)


def held_out_of(run):
    """Return the held-out frames of a run, if there are any."""
    name = run.held_out_corpus
    return [] if name is None else CORPUS.format(corpus=name)


def corpus_of_stage(wildcards):
    """Return the corpus that a stage reads."""
    return corpus_of(STAGES[wildcards.stage][0])


def held_out_of_stage(wildcards):
    """Return the held-out frames that the iterations of a stage read, if there are any."""
    run, stage = STAGES[wildcards.stage]
    return held_out_of(run) if stage.iterations else []


def last_before(wildcards):
    """Return the last mixture of the stage before, if there is one."""
    run, stage = STAGES[wildcards.stage]
    place = run.plan.index(stage)
    return f"results/{run.name}/{run.plan[place - 1].name}.h5" if place else []


def next_iteration(wildcards):
    """Request the next iteration of a stage, as long as the stage goes on."""
    run, stage = STAGES[wildcards.stage]
    if not is_scattered(run, stage) or not stage.iterations:
        return []
    if not os.path.exists(prefix() + FIRST.format(**wildcards)):
        return checkpoints.maximise.get(**wildcards, iteration="001").output
    first = getattr(checkpoints, stage.origin).get(**wildcards).output[0]
    facts, fault = header_state(first)
    paths = [corpus_of(run), *([held_out_of(run)] if run.held_out else [])]
    try:
        corpus, held_out, *_ = [*(read_corpus(prefix() + path) for path in paths), None]
    except GmmcoreError as error:
        fault = str(error)
    if fault:
        return []  # The next job says what is wrong.
    done = walk_iterations(
        os.path.dirname(first),
        facts["digest"],
        corpus,
        held_out,
        run.digest("maximise", stage.kind),
        run.course(stage, corpus),
        header_state,
    )
    if done.complete:
        return []
    following = f"{done.last + 1:03d}"
    return checkpoints.maximise.get(**wildcards, iteration=following).output


def before(wildcards):
    """Return the file of the iteration before, in the same stage."""
    folder = f"results/{wildcards.stage}"
    return mixture_path(folder, int(wildcards.iteration) - 1)


def previous(wildcards):
    """Return the iteration before, unless it is there: nothing in the graph makes it again."""
    path = before(wildcards)
    is_made = int(wildcards.iteration) > 1 and os.path.exists(prefix() + path)
    return [] if is_made else path


def last_stage(run):
    """Return the name of the last stage of a run."""
    return f"{run}/{RUNS[run].plan[-1].name}"


def frames_of(run):
    """Return the number and the dimension of a run's frames, as far as they are known."""
    try:
        corpus = read_corpus(prefix() + corpus_of(run))
    except GmmcoreError:
        return UNKNOWN
    return Frames(corpus.frames, corpus.dimension)


def threads(wildcards):
    """Return all cores; runs with small stages share them, so that they can run side by side."""
    small = STAGES[wildcards.stage][1].components < 64
    # On a cluster the profile says how many threads a job has.
    return max(1, (workflow.cores or 1) // (len(RUNS) if small else 1))


def memory(wildcards, threads, attempt):
    """Return the megabytes that a mixture, its statistics and frames need."""
    run, stage = STAGES[wildcards.stage]
    return attempt * cost(run, stage, frames_of(run), threads).megabytes


def runtime(wildcards, threads, attempt):
    """Return the minutes that a stage may take; what it has done by then is kept."""
    run, stage = STAGES[wildcards.stage]
    seconds = 2 * cost(run, stage, frames_of(run), threads).seconds
    return attempt * (10 + int(seconds / 60))


def kept_frames(wildcards):
    """Return the megabytes of frames that a job keeps in memory."""
    return STAGES[wildcards.stage][0].settings.memory


def is_long(run, stage):
    """Whether a stage may take more than a minute on one core, whatever corpus there will be."""
    return cost(run, stage, UNKNOWN, 1).seconds >= LONG_SECONDS


def is_local(run, stage):
    """Whether a stage is made on the submitting machine; with `jobs: N`, its copy is."""
    return run.settings.jobs != "auto" or not is_long(run, stage)


def is_scattered(run, stage):
    """Whether the iterations of a stage are jobs, with statistics as files between them."""
    return run.settings.jobs != "auto" and not (ON_CLUSTER and not is_long(run, stage))


def device(wildcards):
    """Return what computes a stage: the GPU that is asked for, if the stage takes long."""
    run, stage = STAGES[wildcards.stage]
    return run.settings.device if is_long(run, stage) else "cpu"


def gpus(wildcards):
    """Return how many GPUs a job asks a cluster for."""
    return int(device(wildcards) == "cuda")


wildcard_constraints:
    run=alternatives(RUNS),
    corpus=alternatives(CORPORA),
    stage=alternatives(STAGES),
