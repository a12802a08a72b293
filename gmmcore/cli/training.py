"""Verbs that make the mixtures of a training, from the first one to the final one."""

from __future__ import annotations

import argparse
import os
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np

from gmmcore.cli.verb import CORPUS, OUTPUT, THREADS, argument, call, options, stamp, verb
from gmmcore.config.keys import IterationSettings, Job, Limits, Split
from gmmcore.config.options import options_of
from gmmcore.core.describe import cautions, few_frames, highest, outliers, too_few
from gmmcore.core.divide import divided
from gmmcore.core.history import history_table
from gmmcore.core.initial import controlled, one_gaussian
from gmmcore.core.kinds import to_kind
from gmmcore.core.settings import MStep
from gmmcore.data.corpus import Corpus, CorpusFrames
from gmmcore.errors import DamagedFileError, GmmcoreError, explained
from gmmcore.files import read_json, replace_text, sha256_of
from gmmcore.formats.hdf5 import save_model
from gmmcore.formats.registry import read_mixture
from gmmcore.workflow.check import has_first, load_last, require_first
from gmmcore.workflow.runs import Initialise
from gmmcore.workflow.stage import (
    Task,
    iterations_in,
    make_iterations,
    mixture_path,
    provenance,
    settings_digest,
)
from gmmcore.workflow.statistics import make_next, make_statistics

# What all verbs that make iterations are given.
_TASK = (
    CORPUS,
    argument("--held-out", nargs="?", help="corpus.json of the held-out frames, if any"),
    THREADS,
    argument("--iterations", type=int, default=999, help="of the stage, at most"),
    argument("--final", action="store_true", help="the stage is the last one"),
    options(Job),
    options(IterationSettings),
    options(Limits),
    stamp("iterations"),
)
_BEFORE = argument("--mixture", required=True, help="the iteration before")


@verb(
    CORPUS,
    argument("--from", dest="source", nargs="?", help="a mixture file of any format"),
    argument("--components", type=int, default=1, help="those of the final mixture"),
    OUTPUT,
    options(Initialise),
    stamp("first"),
)
def initialise(arguments: argparse.Namespace) -> None:
    """Make the first mixture of a training: one Gaussian, or a given mixture.

    Example: gmmcore initialise --corpus corpus.json --output diag/1/000.h5
    """
    settings, source = options_of(arguments, Initialise), arguments.source
    corpus = Corpus.read(arguments.corpus)
    if line := too_few(corpus.frames, arguments.components):
        raise GmmcoreError(line)
    for line in (
        few_frames(corpus.frames, arguments.components, corpus.dimension, full=False),
        outliers(corpus.outliers, corpus.frames),
    ):
        if line:
            print(f"warning: {line}")
    robust = np.inf if settings.method == "sidekit" else corpus.robust
    if source is None:
        with explained(arguments.corpus):
            mixture = one_gaussian(corpus.moments, robust, stored="float32")
    else:
        if settings.digest not in (None, sha256_of(source)):
            raise GmmcoreError(f"{source}: changed since the run began; start it again")
        try:
            mixture = read_mixture(source, prefix=settings.prefix, format=settings.input_format)
        except DamagedFileError as error:  # It is not the workflow's, which could make it again.
            raise GmmcoreError(str(error)) from error
        if mixture.dimension != corpus.dimension:
            raise GmmcoreError(
                f"{source}: has dimension {mixture.dimension}, the features have "
                f"{corpus.dimension}; choose other features or another mixture"
            )
        with explained(arguments.corpus):
            mixture = controlled(mixture, corpus.moments, robust, stored="float32")
    kind = "full" if mixture.is_full else "diag"
    facts = provenance(
        stage=kind,
        components=mixture.components,
        corpus=corpus.digest,
        settings=settings_digest("initialise", settings),
    )
    save_model(arguments.output, mixture, facts)
    print(
        f"{kind} {mixture.components:>5}  start from {source or 'the Gaussian of all frames'}: "
        f"{corpus.frames} frames of dimension {corpus.dimension}"
    )


@verb(
    argument("--mixture", required=True),
    argument("--components", type=int, help="afterwards; twice as many by default"),
    argument("--corpus", help="corpus.json, whose frames decide; not for sidekit"),
    THREADS,
    OUTPUT,
    options(Split),
    stamp("first"),
)
def split(arguments: argparse.Namespace) -> None:
    """Divide components in two.

    Example: gmmcore split --mixture diag/32.h5 --corpus corpus.json --components 64
             --output diag/64/000.h5
    """
    settings, model = options_of(arguments, Split), load_last(arguments.mixture)
    components = arguments.components or 2 * model.mixture.components

    @cache
    def frames() -> CorpusFrames:
        if arguments.corpus is None:
            raise GmmcoreError("--corpus is required; only --method sidekit needs no frames")
        return CorpusFrames(Corpus.read(arguments.corpus), arguments.corpus)

    with explained(arguments.mixture):
        mixture = divided(
            model.mixture,
            components,
            lambda level: frames().at(level),
            MStep(floor=settings.floor, occupancy=settings.occupancy),
            method=settings.method,
            threads=arguments.threads,
        )
    facts = provenance(
        stage="full" if mixture.is_full else "diag",
        components=components,
        parent=model.digest,
        corpus=model.facts.get("corpus"),
        settings=settings_digest("split", settings),
    )
    save_model(arguments.output, mixture, facts, model.history)


@verb(argument("--mixture", required=True), OUTPUT, stamp("first"))
def diag2full(arguments: argparse.Namespace) -> None:
    """Turn a diagonal mixture into a full-covariance one.

    Example: gmmcore diag2full --mixture diag/64.h5 --output full/64/000.h5
    """
    model = load_last(arguments.mixture)
    facts = provenance(
        stage="full",
        components=model.facts.get("components", model.mixture.components),
        parent=model.digest,
        corpus=model.facts.get("corpus"),
        settings=settings_digest("diag2full"),
    )
    save_model(arguments.output, to_kind(model.mixture, "full"), facts, model.history)


@verb(
    argument(
        "--mixture",
        required=True,
        help="first mixture of the stage; iterations are written beside it",
    ),
    argument("--before", nargs="?", help="last mixture of the stage before, which it is from"),
    OUTPUT,
    *_TASK,
)
def iterate(arguments: argparse.Namespace) -> None:
    """Run EM iterations to the end of a stage, each with its own file.

    Example: gmmcore iterate --mixture 0.h5 --corpus c.json --iterations 8 --final --output 64.h5
    """
    task = _task(arguments)
    if arguments.settings:
        require_first(task.model, arguments.mixture, arguments.settings, arguments.before)
    make_iterations(task, arguments.output)


@verb(
    argument("--stages", nargs="+", required=True, help="settings.json of each stage, in order"),
    argument("--before", nargs="?", help="last mixture of the stage before the first of them"),
    CORPUS,
    argument("--held-out", nargs="?", help="corpus.json of the held-out frames, if any"),
    argument("--components", type=int, default=1, help="those of the final mixture"),
    argument("--times", help="the folder for the seconds that the stages took"),
    argument("--short", nargs="*", default=[], help="stages such as diag/2 that the CPU makes"),
    THREADS,
    options(Job),
)
def stages(arguments: argparse.Namespace) -> None:
    """Make stages of a training, each by the verbs that make it, in one process.

    Example: gmmcore stages --stages results/demo/diag/1/settings.json
             results/demo/diag/2/settings.json --corpus corpus.json
    """
    before, corpus = arguments.before, ["--corpus", arguments.corpus]
    job = options_of(arguments, Job)
    threads = ["--threads", arguments.threads]
    for stamp_path in arguments.stages:
        # Times of files may be behind the clock by its tick.
        start, begin = time.time() - 0.05, time.perf_counter()
        settings, folder = ["--settings", stamp_path], os.path.dirname(stamp_path)
        first, last, wanted = mixture_path(folder, 0), f"{folder}.h5", read_json(stamp_path)
        source = [] if before is None else ["--mixture", before]
        if not has_first(first, stamp_path, before, arguments.corpus):
            more = {
                "initialise": [*corpus, "--components", arguments.components],
                "split": [*source, *corpus, *threads],
                "diag2full": source,
            }[wanted["origin"]]
            call(wanted["origin"], *settings, *more, "--output", first)
        held_out = arguments.held_out if wanted["held_out"] else None
        name = f"{wanted['stage']}/{wanted['components']}"
        call(
            "iterate",
            *(*settings, *corpus, *threads, "--mixture", first, "--output", last),
            *([] if before is None else ["--before", before]),
            *([] if held_out is None else ["--held-out", held_out]),
            *("--device", "cpu" if name in arguments.short else job.device),
            *("--memory", job.memory),
        )
        files = [Path(first), *iterations_in(folder)]
        made = max(path.stat().st_mtime for path in files)
        if arguments.times and made >= start:
            seconds = time.perf_counter() - begin
            replace_text(f"{arguments.times}/{name}.seconds", f"{seconds:.2f}\n")
        before = last


@verb(
    _BEFORE,
    argument("--part", type=int, default=0, help="which part of the frames, from 0"),
    argument("--parts", type=int, default=1),
    OUTPUT,
    *_TASK,
)
def accumulate(arguments: argparse.Namespace) -> None:
    """Compute sufficient statistics of a part of the frames under a mixture.

    Example: gmmcore accumulate --mixture 1.h5 --corpus corpus.json --part 0 --parts 4 --output 0.h5
    """
    part, parts = arguments.part, arguments.parts
    if not 0 <= part < parts:
        raise GmmcoreError(f"--part {part}: 0 to {parts - 1} were expected")
    make_statistics(_task(arguments, 1 / parts), part, parts, arguments.output)


@verb(
    _BEFORE,
    argument("--statistics", nargs="+", required=True, help="of all parts of the frames"),
    OUTPUT,
    *_TASK,
)
def maximise(arguments: argparse.Namespace) -> None:
    """Make the next mixture from the statistics of all shards.

    Example: gmmcore maximise --mixture 1.h5 --corpus corpus.json --statistics 0.stats.h5
             --output 2.h5
    """
    make_next(_task(arguments), arguments.statistics, arguments.output)


@verb(
    argument("--mixture", required=True, help="the last stage's"),
    OUTPUT,
    argument("--history", help="the table of the iterations"),
    options(Limits),
    options(IterationSettings),
    stamp("iterations"),
)
def finish(arguments: argparse.Namespace) -> None:
    """Write the last mixture of a training as the final one, and say what to be careful about.

    Example: gmmcore finish --mixture full/64.h5 --output ubm.h5
    """
    model = load_last(arguments.mixture)
    facts = {**model.facts, "parent": model.digest}
    # It is compressed, as SIDEKIT does.
    save_model(arguments.output, model.mixture, facts, model.history, compress=True)
    if arguments.history:
        replace_text(arguments.history, history_table(model.history))
    print(f"finished: {arguments.output}  ({model.mixture!r})")
    if "held_out" in facts:
        line, best = (
            f"held-out log-likelihood/frame {facts['held_out']:.6f}",
            highest(model.history),
        )
        if best and best.held_out > facts["held_out"]:
            line += f"; the highest was {best.held_out:.6f}, before iteration {best.iteration} of "
            line += f"{best.stage} {best.components}"
        print(line)
    limits, floor = options_of(arguments, Limits), options_of(arguments, IterationSettings).floor
    bounds = limits.llk_gain, floor, limits.last_gain
    for line in cautions(model.mixture, model.history, *bounds, is_told=True):
        print(f"warning: {line}", file=sys.stderr)


def _task(arguments: argparse.Namespace, share: float = 1.0) -> Task:
    """Return what a job is given that makes iterations, and reads a share of the frames."""

    job = options_of(arguments, Job)
    return Task(
        arguments.mixture,
        arguments.corpus,
        arguments.held_out,
        arguments.iterations,
        arguments.final,
        options_of(arguments, IterationSettings),
        options_of(arguments, Limits),
        job.memory,
        arguments.threads,
        job.device,
        share,
    )
