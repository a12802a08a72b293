# Configuration, paths, and which iteration is next. No rule here, and no arithmetic.

import json
import logging
import os
import sys
from pathlib import Path

from gmmcore import lifeline
from gmmcore.configuration import resolve
from gmmcore.errors import GmmcoreError
from gmmcore.features.identity import fingerprint, shard_digests
from gmmcore.features.settings import FeatureSettings
from gmmcore.features.table import ShowTable
from gmmcore.files import check_writable
from gmmcore.run import Run, hold_folder
from gmmcore.schedule import iteration_name
from gmmcore.verbs.initialise import DEFAULTS as INITIALISE
from snakemake.logging import logger as snakemake_log

from gmmcore.workflow import (
    audio_options,
    demo_settings,
    divided,
    export_path,
    initial_mixture,
    plan_of,
    verb_settings,
)


def stop(error):
    """End with one line; Snakemake would add a traceback."""
    print(f"gmmcore: error: {error}", file=sys.stderr, flush=True)
    os._exit(1)


# A full disk stops Snakemake's log file; a traceback for each of its lines would hide the reason.
logging.raiseExceptions = False

MAIN = workflow.is_main_process  # the process that schedules, not one that runs a job

try:
    CONFIG = resolve(config)
    FOLDER = f"results/{CONFIG['run']}"
    FEATURES = FeatureSettings.from_mapping(CONFIG["features"], CONFIG["seed"])
    INITIAL = initial_mixture(CONFIG)
    PLAN = plan_of(CONFIG, INITIAL)
    SETTINGS = verb_settings(CONFIG, INITIAL)
except GmmcoreError as error:
    stop(error)

# Jobs end with the Snakemake that started them, even if that is killed.
os.environ[lifeline.VARIABLE] = lifeline.own_line()

RUN = Run(FOLDER, PLAN, CONFIG["llk_gain"], SETTINGS)

# A chain of iterations is a chain of jobs, which Snakemake walks recursively.
sys.setrecursionlimit(100_000)


class TrainingLog(logging.Filter):
    """Keeps what Snakemake says of its own bookkeeping out of the training's log."""

    NOISE = (
        "Select jobs to execute",
        "Execute ",
        "DAG of jobs will be updated",
        "Updating checkpoint dependencies",
        "Assuming unrestricted shared filesystem",
        "Building DAG of jobs",
        "Using shell",
        "Conda environments: ignored",
        "Complete log",
        "Elapsed time",
    )

    def filter(self, record):
        return not str(record.msg).startswith(self.NOISE)


_begun = []


def begin():
    """What must happen once, when it is known that jobs will run and before any does.

    Snakemake knows that only when it asks for input: all functions that look at files call this.
    """
    if _begun:
        return
    _begun.append(None)
    settings = workflow.dag_settings
    if settings is not None:
        # What is up to date is decided in gmmcore/run.py; input functions ask for nothing where
        # there is nothing to do, which Snakemake would take for a change of input.
        settings.rerun_triggers = frozenset(
            trigger
            for trigger in settings.rerun_triggers
            if trigger.name in ("MTIME", "PARAMS")
        )
    if (
        not MAIN
        or workflow.executor_plugin is None
        or workflow.dryrun
        or workflow.touch
    ):
        return
    if settings.forceall or settings.forcerun:
        stop(
            "--forceall and --forcerun would ask for input that a finished training no longer "
            f"has; to make something again, remove its file, or {FOLDER} for all of it"
        )
    try:
        _begun.append(hold_folder("."))
        check_writable(FOLDER)
        check_writable(LOG)
        RUN.keep_configuration(CONFIG)
        snakemake_log.addFilter(TrainingLog())
        # Only now may stale and damaged files be set aside.
        RUN.mend = True
        RUN.look_through()
    except GmmcoreError as error:
        stop(error)


SHOWS = f"{FOLDER}/shows.tsv"
MIXTURE = f"{FOLDER}/{{kind}}/{{components}}/{{iteration}}.h5"
STATISTICS = (
    f"{FOLDER}/{{kind}}/{{components}}/{{iteration}}/{{part}}-of-{{parts}}.stats.h5"
)
LOG = f"logs/{CONFIG['run']}"
DEMO = CONFIG["demo"]["folder"]
AUDIO = CONFIG["audio"]["list"]


def literal(path):
    """A path from the configuration, in which Snakemake is to see no wildcards."""
    return path.replace("{", "{{").replace("}", "}}")


def made_list(wildcards):
    """The feature list, if the workflow makes it."""
    if DEMO:
        return checkpoints.demo.get().output.shows
    if AUDIO:
        return checkpoints.extract.get().output.shows
    return []


_fingerprint = []
_shards = {}


def features_fingerprint():
    """Digest of the list and its files; None as long as the list is yet to be made."""
    if not _fingerprint and MAIN and os.path.exists(FEATURES.list):
        try:
            _fingerprint.append(fingerprint(FEATURES))
        except GmmcoreError as error:
            stop(error)
    return _fingerprint[0] if _fingerprint else None


def mtime(path):
    """Time of change of a file in nanoseconds; None if there is none."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


SHOWS_AT_START = mtime(SHOWS)
_current = {}


def shows_are_current():
    """Whether shows.tsv is that of the features as they are."""
    begin()
    now = mtime(SHOWS)
    if now is None:
        return False
    if not MAIN or now != SHOWS_AT_START:
        return True  # written by this very run
    if now not in _current:
        try:
            found = ShowTable.read(SHOWS).facts["fingerprint"]
        except GmmcoreError:
            found = "damaged"
        _current[now] = found == features_fingerprint()
    if not _current[now]:
        RUN.set_aside(SHOWS, "the features, or what is to be done with them, changed")
    return _current[now]


def shard_files():
    """Files of all shards, in their order; named after what decides their content."""
    if not shows_are_current():
        checkpoints.shows.get()
    when = mtime(SHOWS)
    if when not in _shards:
        digests = shard_digests(SHOWS, FEATURES)
        _shards[when] = [
            f"{FOLDER}/shards/{name}-{digest[:12]}.npy"
            for name, digest in digests.items()
        ]
    return _shards[when]


def known_shards():
    """The same as far as it is known without any job."""
    return shard_files() if shows_are_current() else None


def known_corpus():
    """The corpus, if it has been gathered and is current."""
    shards = known_shards()
    return None if shards is None else RUN.corpus(shards)


def positions():
    """Where each stage is."""
    return RUN.survey(known_corpus())


def last_mixture(stage):
    """The last mixture of a stage; asks for its next iteration as long as one is due."""
    position = positions()[stage]
    if position.complete or stage.iterations == 0:
        return RUN.mixture(stage, max(position.last, 0))
    iteration = max(position.last, 0) + 1
    # Raises as long as the iteration is to be made; Snakemake then asks again.
    checkpoints.maximise.get(
        kind=stage.kind,
        components=stage.components,
        iteration=iteration_name(iteration),
    )
    return RUN.mixture(stage, iteration)


def last_of_every_stage(wildcards):
    """Last mixtures of all stages."""
    return [last_mixture(stage) for stage in PLAN]


def is_done(kind, components, iteration):
    """Whether a mixture is there and current, so that no job needs to make it."""
    stage = RUN.stage(kind, components)
    return int(iteration) <= positions()[stage].last


def quoted(values):
    """Settings as one word of a command line."""
    return json.dumps(values, sort_keys=True)


def jobs():
    """E-step jobs an iteration."""
    if CONFIG["jobs"] != "auto":
        return CONFIG["jobs"]
    return 1 if workflow.local_exec and MAIN else len(shard_files())


def iteration_threads(wildcards):
    """All cores for a job that makes a whole iteration."""
    return workflow.cores if one_job() and workflow.cores else 1


def one_job():
    """Whether one job makes the whole iteration: E-step and M-step, in one process.

    Not on a cluster, where the M-step stays on the machine that submits.
    """
    return MAIN and workflow.local_exec and jobs() == 1


def last_iteration(wildcards):
    """Iteration up to which a job goes on by itself; 0 if it makes only its own."""
    if not one_job():
        return 0
    return RUN.stage(wildcards.kind, wildcards.components).iterations


def previous(wildcards):
    """The mixture before this one, in the same stage."""
    stage = RUN.stage(wildcards.kind, wildcards.components)
    return RUN.mixture(stage, int(wildcards.iteration) - 1)


def shards_of_part(wildcards):
    """Shards of one E-step job."""
    chosen = divided(len(shard_files()), int(wildcards.parts))[int(wildcards.part)]
    return [shard_files()[index] for index in chosen]


def unless_done(function):
    """An input function of an iteration, that asks for nothing once its mixture is done."""

    def asked(wildcards):
        if is_done(wildcards.kind, wildcards.components, wildcards.iteration):
            return []
        return function(wildcards)

    return asked


def statistics_of_iteration(wildcards):
    """The files of all E-step jobs of an iteration; none if it is one job."""
    if one_job():
        return []
    count = len(divided(len(shard_files()), jobs()))
    files = expand(STATISTICS, part=range(count), parts=count, **wildcards)
    RUN.review_statistics(files, previous(wildcards))
    return files


def shards_of_iteration(wildcards):
    """All shards, if one job makes the iteration."""
    return shard_files() if one_job() else []


def start_input(stage):
    """Input of the job that makes the first mixture of a stage; nothing if that is done."""

    def function(wildcards):
        if is_done(stage.kind, stage.components, 0):
            return []
        if stage.origin == "initialise":
            return known_corpus() and RUN.corpus_path or checkpoints.corpus.get().output
        return last_mixture(RUN.before(stage))

    return function


def shard_is_done(wildcards):
    """Whether a shard is there, whole as far as can be told without reading its frames."""
    path = f"{FOLDER}/shards/{wildcards.shard}-{wildcards.digest}.npy"
    return RUN.shard_is_whole(path)


def final_input(wildcards):
    """The last mixture; nothing if the final one was made from it."""
    source = last_mixture(PLAN[-1])
    if not positions()[PLAN[-1]].complete:
        return source
    return [] if RUN.final_is_done(source) else source


def exports():
    """Files of all formats that are asked for."""
    return [export_path(FOLDER, name) for name in CONFIG["export"]]
