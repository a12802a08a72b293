"""Functions that several verbs need."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from gmmcore.config.options import add_options, mapping, options_of
from gmmcore.config.steps import IterationSettings, Limits, Memory
from gmmcore.core.describe import few_frames
from gmmcore.core.schedule import place_of
from gmmcore.errors import GmmcoreError
from gmmcore.files import REMEDY

if TYPE_CHECKING:
    from gmmcore.core.estep import ESteps
    from gmmcore.core.frames import FrameSource
    from gmmcore.core.history import HistoryEntry
    from gmmcore.core.mixture import GaussianMixture
    from gmmcore.core.schedule import Course
    from gmmcore.data.corpus import Corpus
    from gmmcore.formats.hdf5 import Model


def add_maximising(parser: argparse.ArgumentParser, mixture: str) -> None:
    """Declare the arguments of all verbs that make iterations."""
    parser.add_argument("--mixture", required=True, help=mixture)
    parser.add_argument("--corpus", required=True, help="corpus.json; the shards lie beside it")
    parser.add_argument("--held-out", help="corpus.json of the held-out frames, if there are any")
    parser.add_argument("--threads", type=int, default=1, help="do not change the result")
    parser.add_argument("--iterations", type=int, default=999, help="of the stage, at most")
    parser.add_argument("--final", action="store_true", help="the stage is the last one")
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cpu", help="what computes the E-steps"
    )
    add_options(parser, Memory)
    add_options(parser, IterationSettings)
    add_options(parser, Limits)


def course_of(arguments: argparse.Namespace, model: Model, corpus: Corpus) -> Course:
    """Choose what the iterations of the stage read, with the arguments of `add_maximising`."""
    from gmmcore.core.schedule import Course, Stage

    facts, limits = model.facts, options_of(arguments, Limits)
    stage = Stage(facts["stage"], facts["components"], arguments.iterations, "", arguments.final)
    return Course.of(
        stage,
        frames=corpus.frames,
        dimension=corpus.dimension,
        **mapping(limits),
    )


def next_level(arguments: argparse.Namespace, model: Model, course: Course) -> int:
    """Return the level of the subset that the iteration after a mixture reads."""
    level = course.next_level(*place_of(model.facts))
    if level is None:
        raise GmmcoreError(
            f"{arguments.mixture}: is the last mixture of its stage; for another iteration, "
            "expected more --iterations or a lower --llk-gain"
        )
    return level


def e_steps_of(arguments: argparse.Namespace, corpus: Corpus, *, share: float = 1.0) -> ESteps:
    """Return the E-steps of a stage, with the arguments of `add_maximising`.

    `share` is that of the frames which this process reads.
    """
    from gmmcore.core.estep import ESteps
    from gmmcore.core.parallel import processes_map
    from gmmcore.core.schedule import held_out_level
    from gmmcore.data.corpus import Corpus, CorpusFrames

    settings = options_of(arguments, IterationSettings)
    memory = int(1_000_000 * options_of(arguments, Memory).memory / share)
    is_shared = arguments.threads > 1

    @cache
    def frames() -> CorpusFrames:
        return CorpusFrames(corpus, arguments.corpus, memory, is_shared=is_shared)

    @cache
    def outside() -> CorpusFrames:
        left = Corpus.read(arguments.held_out)
        return CorpusFrames(left, arguments.held_out, memory, is_shared=is_shared)

    def held_out(level: int) -> FrameSource:
        return outside().at(held_out_level(level, outside().at(0).frames))

    return ESteps(
        lambda level: frames().at(level),
        precision=settings.precision,
        pruning=settings.pruning,
        device=arguments.device,
        workers=arguments.threads,
        map_of=processes_map,
        held_out=held_out if arguments.held_out else None,
    )


def gpu_of(arguments: argparse.Namespace) -> str | None:
    """Return the name of the GPU that computes, for the facts of a file; None for the CPU."""
    if arguments.device == "cpu":
        return None
    from gmmcore.core.gpu import gpu_name

    return gpu_name()


def held_out_of(arguments: argparse.Namespace) -> Corpus | None:
    """Return the held-out frames, if there are any."""
    from gmmcore.data.corpus import Corpus

    return Corpus.read(arguments.held_out) if arguments.held_out else None


def check_held_out(arguments: argparse.Namespace, model: Model) -> None:
    """Raise an error, at the beginning of a stage, if a show is held out and trained on."""
    from gmmcore.data.shows import check_apart

    if arguments.held_out and not model.facts["iteration"]:
        both = (arguments.corpus, arguments.held_out)
        check_apart(*(Path(path).with_name("shows.tsv") for path in both))


def entries_of_stage(model: Model) -> tuple[HistoryEntry, ...]:
    """Return the history entries of the stage that a mixture belongs to."""
    return model.history[len(model.history) - model.facts["iteration"] :]


def load_of_corpus(arguments: argparse.Namespace, corpus: Corpus) -> Model:
    """Read the mixture of an iteration, which must come from the frames of the corpus."""
    from gmmcore.formats.hdf5 import load_model

    model = load_model(arguments.mixture)
    if model.facts["corpus"] != corpus.digest:
        raise GmmcoreError(
            f"{arguments.mixture}: comes from other frames than {arguments.corpus}; {REMEDY}"
        )
    return model


def warn_of_few_frames(model: Model, corpus: Corpus) -> None:
    """Print the line of `few_frames` at the beginning of a stage with full covariances."""
    size = model.mixture.components, corpus.dimension
    is_first = model.mixture.is_full and not model.facts["iteration"]
    if is_first and (line := few_frames(corpus.frames, *size, full=True)):
        print(f"warning: {line}", file=sys.stderr, flush=True)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Declare the argument that only one format needs."""
    parser.add_argument("--prefix", default="", help="of the datasets in a SIDEKIT file read")


def read_any(path: str, arguments: argparse.Namespace) -> GaussianMixture:
    """Read the mixture in `path`, of any format, with the arguments of `add_reading`."""
    from gmmcore.formats.registry import read_mixture

    return read_mixture(path, prefix=arguments.prefix)


@contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Turn errors of the numerical core into a `GmmcoreError` that names the file."""
    from gmmcore.core.mixture import InvalidMixtureError

    try:
        yield
    except (InvalidMixtureError, FloatingPointError, ValueError) as error:
        raise GmmcoreError(f"{path}: {error}") from error
