# Configuration and small input functions. No rule here, and no arithmetic.

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
from gmmcore.corpus.corpus import Corpus
from gmmcore.corpus.identity import shard_paths
from gmmcore.demo.synthetic import DemoSettings
from gmmcore.errors import GmmcoreError
from gmmcore.features.settings import AudioSettings
from gmmcore.files import sealed_facts
from gmmcore.options import words
from gmmcore.resume import mixture_path, walk_iterations
from gmmcore.runs import made_lists, read_runs
from gmmcore.schedule import iteration_name
from gmmcore.settings import EXPORTS

# A closed pipe, as of `snakemake | head`, ends Snakemake. Else it waits for ever: the thread that
# meets the pipe is not the one that waits for its jobs.
with contextlib.suppress(ValueError):  # Where Snakemake itself runs in a thread.
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

# What envs/gmmcore.post-deploy.sh installs: this checkout, or the release that is in use.
PROJECT = Path(gmmcore.__file__).parents[1]
RELEASE = f"gmmcore=={gmmcore.__version__}"
os.environ.update(
    GMMCORE_SOURCE=str(PROJECT) if (PROJECT / "pyproject.toml").exists() else RELEASE
)

CORPORA = {run.corpus: run for run in RUNS.values()}
DEMOS = {
    run.settings.demo.folder: run.settings
    for run in RUNS.values()
    if run.settings.demo.folder
}
AUDIOS = {
    run.settings.audio.folder: run.settings.audio
    for run in RUNS.values()
    if run.settings.audio.list
}
# Lists that the workflow makes.
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

# Runs whose statistics are files between jobs; a chain of iterations is then a chain of jobs, which
# Snakemake walks recursively.
SCATTERED = {name for name, run in RUNS.items() if run.settings.jobs != "auto"}
sys.setrecursionlimit(100_000)

# The first run with a stage makes it, and the others copy its iterations.
MAKERS = {}
for run in RUNS.values():
    for stage in run.plan:
        MAKERS.setdefault(run.recipe(stage), run)


def literal(path):
    """A path from the configuration, in which Snakemake is to see no wildcards."""
    return path.replace("{", "{{").replace("}", "}}")


def alternatives(values):
    """A wildcard constraint: one of these values; without any, nothing fits."""
    return "|".join(map(re.escape, values)) or "(?!)"


def runs_with(origin=None):
    """A constraint of `run`: it has the stage that follows, with this origin if one is given."""
    return (
        "|".join(
            rf"{re.escape(run.name)}(?=/{stage.name}\b)"
            for run in RUNS.values()
            for stage in run.plan
            if origin in (None, stage.origin)
        )
        or "(?!)"
    )


def prefix():
    """The prefix of all paths, where this workflow is a module of another one."""
    return str(rules.shows.output[0]).removesuffix(TABLE)


def features_of(run):
    """Settings of a run's features, with the list where it is."""
    if run.features.list not in LISTS:
        return run.features
    return replace(run.features, list=prefix() + run.features.list)


def maximising(wildcards):
    """Settings of E-step and M-step."""
    run = RUNS[wildcards.run]
    return words(run.settings.iteration(run.stage(wildcards.stage).kind))


def memory(wildcards, attempt):
    """Megabytes of a job that holds a mixture, its statistics and blocks of frames."""
    run = RUNS[wildcards.run]
    stage = run.stage(wildcards.stage)
    try:
        with open(f"{prefix()}results/features/{run.corpus}/corpus.json") as stream:
            dimension = json.load(stream)["dimension"]
    except (OSError, ValueError, KeyError, TypeError):
        dimension = 60
    numbers = stage.components * dimension * (dimension if stage.kind == "full" else 1)
    return attempt * (400 + numbers * 8 * 12 // 1_000_000)


def threads(wildcards):
    """All cores, but one each where several small stages can be made side by side."""
    small = RUNS[wildcards.run].stage(wildcards.stage).components < 64
    return max(1, (workflow.cores or 1) // (len(RUNS) if small else 1))


def demo_settings(wildcards):
    """Settings of a demonstration corpus."""
    settings = DEMOS[wildcards.demo]
    return [f"--seed={settings.seed}", *words(settings.demo, DemoSettings)]


def audio_options(wildcards):
    """Options of the verb `extract`."""
    audio = AUDIOS[wildcards.audio]
    places = {"pattern": audio.pattern, "root": audio.root}
    given = [f"--{key}={value}" for key, value in places.items() if value is not None]
    return [*given, *words(audio, AudioSettings)]


def corpus_settings(wildcards):
    """Settings of the features of a corpus."""
    return words(features_of(CORPORA[wildcards.corpus]))


def shards_of_corpus(wildcards):
    """Files of all shards, which are known once the list is checked."""
    table = checkpoints.shows.get(**wildcards).output[0]
    if not os.path.exists(table):
        return []  # `--touch` where nothing was made yet.
    return [
        literal(path.removeprefix(prefix())) for path in shard_paths(table).values()
    ]


def corpus_of_run(wildcards):
    """The frames that a run trains on."""
    return f"results/features/{RUNS[wildcards.run].corpus}/corpus.json"


def initial_mixture(wildcards):
    """The mixture that a run starts from, if it is given one."""
    path = RUNS[wildcards.run].settings.init.from_
    return local(literal(path)) if path else []


def last_of_stage_before(wildcards):
    """The last mixture of the stage before."""
    run = RUNS[wildcards.run]
    return f"results/{run.name}/{run.before(run.stage(wildcards.stage)).name}.h5"


def twin(wildcards):
    """The same stage of another run, if that makes the iterations of both."""
    run = RUNS[wildcards.run]
    maker = MAKERS[run.recipe(run.stage(wildcards.stage))]
    if maker is run or {run.settings.jobs, maker.settings.jobs} != {"auto"}:
        return []
    return f"results/{maker.name}/{wildcards.stage}.h5"


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
        limits = (stage.iterations, run.settings.llk_gain)
        walk = walk_iterations(folder, first, corpus.digest, settings, *limits)
        last, complete = walk.last, walk.complete
    except GmmcoreError:
        pass  # What the stage begins with is yet to be made.
    if complete:
        return ITERATION.format(iteration=iteration_name(last), **wildcards)
    return checkpoints.maximise.get(
        iteration=iteration_name(last + 1), **wildcards
    ).output


def previous(wildcards):
    """The mixture before this one, in the same stage."""
    return mixture_path(
        f"results/{wildcards.run}/{wildcards.stage}", int(wildcards.iteration) - 1
    )


def statistics_of_iteration(wildcards):
    """The files of all E-step jobs of an iteration."""
    parts = RUNS[wildcards.run].settings.jobs
    return expand(STATISTICS, part=range(parts), parts=parts, **wildcards)


wildcard_constraints:
    run=alternatives(RUNS),
    corpus=alternatives(CORPORA),
    stage=alternatives(stage.name for run in RUNS.values() for stage in run.plan),
