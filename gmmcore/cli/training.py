"""Verbs that make mixtures, in the order of a training."""

from __future__ import annotations

import argparse
import operator
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial, reduce
from math import nan
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from gmmcore.cli.verb import CORPUS, OUTPUT, THREADS, argument, explained, options, verb
from gmmcore.errors import GmmcoreError
from gmmcore.files import REMEDY

if TYPE_CHECKING:
    from gmmcore.config.keys import IterationSettings
    from gmmcore.core.estep import ESteps
    from gmmcore.core.frames import FrameSource
    from gmmcore.core.history import HistoryEntry
    from gmmcore.core.mixture import GaussianMixture
    from gmmcore.core.mstep import Update
    from gmmcore.core.schedule import Course
    from gmmcore.core.sums import Statistics
    from gmmcore.data.corpus import Corpus, CorpusFrames
    from gmmcore.formats.hdf5 import Model
    from gmmcore.formats.statistics import StatisticsFacts

_ITERATIONS = (
    CORPUS,
    argument("--held-out", help="corpus.json of the held-out frames, if there are any"),
    THREADS,
    argument("--iterations", type=int, default=999, help="of the stage, at most"),
    argument("--final", action="store_true", help="the stage is the last one"),
    argument("--device", choices=["cpu", "cuda"], default="cpu", help="what computes the E-steps"),
    options("config.keys.Memory"),
    options("config.keys.IterationSettings"),
    options("config.keys.Limits"),
)


@verb(
    argument("--corpus", required=True),
    argument("--from", dest="source", help="a mixture file of any format"),
    argument("--components", type=int, default=1, help="those of the final mixture"),
    OUTPUT,
    options("workflow.runs.Initialise"),
)
def initialise(arguments: argparse.Namespace) -> None:
    """Make the first mixture of a training: one Gaussian, or a given mixture.

    Example: gmmcore initialise --corpus corpus.json --output diag/1/000.h5
    """
    from gmmcore.config.options import options_of
    from gmmcore.core.describe import few_frames
    from gmmcore.core.initial import controlled, one_gaussian
    from gmmcore.data.corpus import Corpus
    from gmmcore.files import sha256_of
    from gmmcore.formats.hdf5 import save_model
    from gmmcore.formats.registry import read_mixture
    from gmmcore.workflow.provenance import provenance, settings_digest
    from gmmcore.workflow.runs import Initialise

    settings = options_of(arguments, Initialise)
    corpus, source = Corpus.read(arguments.corpus), arguments.source
    if corpus.frames < arguments.components:
        raise GmmcoreError(
            f"components: {arguments.components}, but there are only {corpus.frames} frames; "
            "train fewer components or bring more shows"
        )
    if line := few_frames(corpus.frames, arguments.components, corpus.dimension, full=False):
        print(f"warning: {line}")
    if source is None:
        with explained(arguments.corpus):
            mixture = one_gaussian(corpus.moments, stored="float32")
    else:
        if settings.digest not in (None, sha256_of(source)):
            raise GmmcoreError(f"{source}: changed since the run began; start it again")
        mixture = read_mixture(source, prefix=settings.prefix)
        if mixture.dimension != corpus.dimension:
            raise GmmcoreError(
                f"{source}: has dimension {mixture.dimension}, the features have "
                f"{corpus.dimension}; choose other features or another mixture"
            )
        with explained(arguments.corpus):
            mixture = controlled(mixture, corpus.moments, stored="float32")
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
    options("config.keys.Split"),
)
def split(arguments: argparse.Namespace) -> None:
    """Divide components in two.

    Example: gmmcore split --mixture diag/32.h5 --corpus corpus.json --components 64 --output 000.h5
    """
    from gmmcore.config.keys import Split
    from gmmcore.config.options import options_of
    from gmmcore.core.divide import divided
    from gmmcore.data.corpus import Corpus, CorpusFrames
    from gmmcore.formats.hdf5 import load_model, save_model
    from gmmcore.workflow.provenance import provenance, settings_digest

    settings = options_of(arguments, Split)
    model = load_model(arguments.mixture)
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
            method=settings.method,
            floor=settings.floor,
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


@verb(argument("--mixture", required=True), OUTPUT)
def diag2full(arguments: argparse.Namespace) -> None:
    """Turn a diagonal mixture into a full-covariance one.

    Example: gmmcore diag2full --mixture diag/64.h5 --output full/64/000.h5
    """
    from gmmcore.core.initial import to_full
    from gmmcore.formats.hdf5 import load_model, save_model
    from gmmcore.workflow.provenance import provenance, settings_digest

    model = load_model(arguments.mixture)
    facts = provenance(
        stage="full",
        components=model.facts.get("components", model.mixture.components),
        parent=model.digest,
        corpus=model.facts.get("corpus"),
        settings=settings_digest("diag2full"),
    )
    save_model(arguments.output, to_full(model.mixture), facts, model.history)


@verb(
    argument("--twin", help="the same stage of another run, whose iterations are copied"),
    argument("--output", required=True, help="the stage's last mixture"),
    argument(
        "--mixture",
        required=True,
        help="first mixture of the stage; iterations are written beside it",
    ),
    *_ITERATIONS,
)
def iterate(arguments: argparse.Namespace) -> None:
    """Run EM iterations to the end of a stage, each with its own file.

    Example: gmmcore iterate --mixture 0.h5 --corpus c.json --iterations 8 --final --output 64.h5
    """
    from gmmcore.files import holding, read_bytes, replace_bytes
    from gmmcore.workflow.resume import mixture_path, superseded

    folder = Path(arguments.mixture).parent
    # Another process may work there, such as one left by a killed Snakemake: this one waits for it.
    with holding(folder):
        last = _last_iteration(arguments, folder)
        for path in superseded(folder, last):
            path.unlink(missing_ok=True)
        replace_bytes(arguments.output, read_bytes(mixture_path(folder, last)))


def _last_iteration(arguments: argparse.Namespace, folder: Path) -> int:
    """Continue after the last valid iteration; return the number of the stage's last one."""
    from gmmcore.formats.hdf5 import load_model
    from gmmcore.workflow.iteration import progress_line, save_iteration
    from gmmcore.workflow.provenance import settings_digest
    from gmmcore.workflow.resume import mixture_path, walk_iterations

    stage = _stage_of(arguments)
    digest = settings_digest("maximise", stage.settings)
    done = walk_iterations(
        folder, stage.model.digest, stage.corpus, stage.held_out, digest, stage.course
    )
    if done.complete:
        return done.last
    last, source = done.last, mixture_path(folder, done.last)
    model = load_model(source) if last else stage.model
    _begin(arguments, stage.corpus, model)
    steps, name = _steps_of(arguments, stage), folder.absolute().parents[1].name
    label = f"{name}  {stage.course.stage.kind} {stage.course.stage.components:>5}"
    with (
        explained(source),
        # Logs have no such line: it goes to the terminal itself.
        progress_line(sys.__stderr__, lambda: f"{label}  iteration {last + 1:>2}") as steps.report,
    ):
        start, gpu = perf_counter(), _gpu_of(arguments)
        for entry, update in _updates(arguments, stage, model, steps, steps.statistics):
            model = save_iteration(
                mixture_path(folder, entry.iteration),
                model,
                entry,
                update,
                stage.settings,
                stage.course,
                stage.held_out,
                perf_counter() - start,
                gpu,
            )
            last, start = entry.iteration, perf_counter()
    return last


@verb(
    argument("--part", type=int, default=0, help="which part of the frames, from 0"),
    argument("--parts", type=int, default=1),
    argument(
        "--unless", help="the next mixture: where it is there already, no statistics are taken"
    ),
    OUTPUT,
    argument("--mixture", required=True, help="what the statistics are taken with"),
    *_ITERATIONS,
)
def accumulate(arguments: argparse.Namespace) -> None:
    """Compute sufficient statistics of a part of the frames under a mixture.

    Example: gmmcore accumulate --mixture 1.h5 --corpus corpus.json --part 0 --parts 4 --output 0.h5
    """
    import numpy as np

    from gmmcore.formats.statistics import save_statistics
    from gmmcore.workflow.resume import is_iteration

    stage = _stage_of(arguments)
    mixture, level = stage.model.mixture, _next_level(arguments, stage)
    part, parts = arguments.part, arguments.parts
    if not 0 <= part < parts:
        raise GmmcoreError(f"--part {part}: 0 to {parts - 1} were expected")
    found = {}
    if not arguments.unless or not is_iteration(
        arguments.unless, stage.model.digest, stage.settings, level, stage.held_out
    ):
        steps = _steps_of(arguments, stage, share=1 / parts)
        numbers = np.array_split(np.arange(len(steps.parts(level))), parts)[part].tolist()
        with explained(arguments.mixture):
            chosen = [steps.parts(level)[number] for number in numbers]
            sums = steps.map(mixture, chosen)(steps.sums(mixture).over, chosen)
            found = dict(zip(numbers, sums, strict=True))
    facts = _statistics_facts(arguments, stage, level)
    save_statistics(arguments.output, found, facts, gpu=_gpu_of(arguments))


@verb(
    argument("--statistics", nargs="+", required=True, help="of all shards"),
    OUTPUT,
    argument("--mixture", required=True, help="what the statistics were taken with"),
    *_ITERATIONS,
)
def maximise(arguments: argparse.Namespace) -> None:
    """Make the next mixture from the statistics of all shards.

    Example: gmmcore maximise --mixture 1.h5 --corpus c.json --statistics 0.stats.h5 --output 2.h5
    """
    from gmmcore.core.sums import Sums
    from gmmcore.formats.statistics import read_statistics
    from gmmcore.workflow.iteration import save_iteration
    from gmmcore.workflow.resume import is_iteration

    stage = _stage_of(arguments)
    model, level = stage.model, _next_level(arguments, stage)
    if is_iteration(arguments.output, model.digest, stage.settings, level, stage.held_out):
        return
    _begin(arguments, stage.corpus, model)
    steps = _steps_of(arguments, stage)
    parts = steps.parts(level)
    with explained(arguments.mixture):
        facts = _statistics_facts(arguments, stage, level)
        # The sums of a GPU lie as those of a CPU without pruning, and adding them needs no GPU.
        is_cpu = arguments.device == "cpu"
        sums = steps.sums(model.mixture) if is_cpu else Sums(model.mixture, steps.precision)
        found, files = read_statistics(arguments.statistics, facts, len(parts), sums.size)
        total = sums.statistics(reduce(operator.iadd, found), sum(part.frames for part in parts))
        entry, update = next(_updates(arguments, stage, model, steps, lambda *_: total))
    save_iteration(
        arguments.output,
        model,
        entry,
        update,
        stage.settings,
        stage.course,
        stage.held_out,
        device=files[0].get("gpu"),
    )


@verb(
    argument("--mixture", required=True, help="the last stage's"),
    argument("--output", required=True, help="the final mixture"),
    options("config.keys.Limits"),
)
def finish(arguments: argparse.Namespace) -> None:
    """Write the last mixture of a training as the final one.

    Example: gmmcore finish --mixture full/64.h5 --output ubm.h5
    """
    from gmmcore.config.keys import Limits
    from gmmcore.config.options import options_of
    from gmmcore.core.describe import cautions
    from gmmcore.formats.hdf5 import load_model, save_model

    model = load_model(arguments.mixture)
    facts = {**model.facts, "parent": model.digest}
    # Compressed, as SIDEKIT does it.
    save_model(arguments.output, model.mixture, facts, model.history, compress=True)
    print(f"finished: {arguments.output}  ({model.mixture!r})")
    if "held_out" in facts:
        print(f"held-out log-likelihood/frame {facts['held_out']:.6f}")
    for line in cautions(model.mixture, model.history, options_of(arguments, Limits).llk_gain):
        print(f"warning: {line}", file=sys.stderr)


class _Stage(NamedTuple):
    """What the verbs that make iterations read."""

    settings: IterationSettings
    corpus: Corpus
    held_out: Corpus | None
    model: Model
    course: Course


def _stage_of(arguments: argparse.Namespace) -> _Stage:
    """Read the mixture and the frames of an iteration, with the arguments of `_ITERATIONS`."""
    from gmmcore.config.keys import IterationSettings, Limits
    from gmmcore.config.options import mapping, options_of
    from gmmcore.core.schedule import Course, Stage
    from gmmcore.data.corpus import Corpus
    from gmmcore.formats.hdf5 import load_model

    corpus = Corpus.read(arguments.corpus)
    held_out = Corpus.read(arguments.held_out) if arguments.held_out else None
    model = load_model(arguments.mixture)
    facts, limits = model.facts, mapping(options_of(arguments, Limits))
    if facts["corpus"] != corpus.digest:
        raise GmmcoreError(
            f"{arguments.mixture}: comes from other frames than {arguments.corpus}; {REMEDY}"
        )
    stage = Stage(facts["stage"], facts["components"], arguments.iterations, "", arguments.final)
    course = Course.of(stage, frames=corpus.frames, dimension=corpus.dimension, **limits)
    return _Stage(options_of(arguments, IterationSettings), corpus, held_out, model, course)


def _next_level(arguments: argparse.Namespace, stage: _Stage) -> int:
    """Return the level of the subset that the iteration after a mixture reads."""
    from gmmcore.core.schedule import place_of

    level = stage.course.next_level(*place_of(stage.model.facts))
    if level is None:
        raise GmmcoreError(
            f"{arguments.mixture}: is the last mixture of its stage; for another iteration, "
            "expected more --iterations or a lower --llk-gain"
        )
    return level


def _begin(arguments: argparse.Namespace, corpus: Corpus, model: Model) -> None:
    """Look at the frames at the beginning of a stage: are there enough, are any held out, too."""
    from gmmcore.core.describe import few_frames
    from gmmcore.data.shows import check_apart

    if model.facts["iteration"]:
        return
    mixture = model.mixture
    if mixture.is_full and (
        line := few_frames(corpus.frames, mixture.components, corpus.dimension, full=True)
    ):
        print(f"warning: {line}", file=sys.stderr, flush=True)
    if arguments.held_out:
        both = (arguments.corpus, arguments.held_out)
        check_apart(*(Path(path).with_name("shows.tsv") for path in both))


def _steps_of(arguments: argparse.Namespace, stage: _Stage, *, share: float = 1.0) -> ESteps:
    """Return the E-steps of a stage, in a process that reads a share of the frames."""
    from gmmcore.config.keys import Memory
    from gmmcore.config.options import options_of
    from gmmcore.core.estep import ESteps
    from gmmcore.core.parallel import processes_map
    from gmmcore.core.schedule import held_out_level
    from gmmcore.data.corpus import Corpus, CorpusFrames

    memory = int(1_000_000 * options_of(arguments, Memory).memory / share)

    @cache
    def frames(path: str) -> CorpusFrames:
        corpus = stage.corpus if path == arguments.corpus else Corpus.read(path)
        return CorpusFrames(corpus, path, memory, is_shared=arguments.threads > 1)

    def held_out(level: int) -> FrameSource:
        outside = frames(arguments.held_out)
        return outside.at(held_out_level(level, outside.at(0).frames))

    return ESteps(
        lambda level: frames(arguments.corpus).at(level),
        precision=stage.settings.precision,
        pruning=stage.settings.pruning,
        device=arguments.device,
        workers=arguments.threads,
        map_of=processes_map,
        held_out=held_out if stage.held_out else None,
    )


def _updates(
    arguments: argparse.Namespace,
    stage: _Stage,
    model: Model,
    steps: ESteps,
    statistics: Callable[[GaussianMixture, int], Statistics],
) -> Iterator[tuple[HistoryEntry, Update]]:
    """Make the iterations of a stage after a mixture."""
    from gmmcore.core.em import iterations
    from gmmcore.core.mstep import maximise

    return iterations(
        model.mixture,
        statistics,
        partial(maximise, settings=stage.settings, threads=arguments.threads),
        stage.course.after,
        history=model.history[len(model.history) - model.facts["iteration"] :],
        held_out=steps.held_out,
        reached=model.facts.get("held_out", nan),
    )


def _statistics_facts(arguments: argparse.Namespace, stage: _Stage, level: int) -> StatisticsFacts:
    """Return what statistics must be of, to be those of an iteration."""
    from gmmcore.formats.statistics import StatisticsFacts
    from gmmcore.workflow.provenance import settings_digest

    digest = settings_digest("accumulate", stage.settings)
    return StatisticsFacts(stage.model.digest, stage.corpus.digest, level, digest, arguments.device)


def _gpu_of(arguments: argparse.Namespace) -> str | None:
    """Return the name of the GPU that computes, for the facts of a file; None for the CPU."""
    if arguments.device == "cpu":
        return None
    from gmmcore.core.gpu import gpu_name

    return gpu_name()
