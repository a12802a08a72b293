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
from gmmcore.core.cautions import few_frames
from gmmcore.core.gpu.choice import DEVICES
from gmmcore.core.schedule import place_of
from gmmcore.errors import GmmcoreError
from gmmcore.files import REMEDY

if TYPE_CHECKING:
    from gmmcore.core.frames import FrameSource
    from gmmcore.core.history import HistoryEntry
    from gmmcore.core.mixture import GaussianMixture
    from gmmcore.core.schedule import Course
    from gmmcore.core.teams.base import Work
    from gmmcore.data.corpus import Corpus
    from gmmcore.formats.hdf5 import Model

__all__ = [
    "add_maximising",
    "add_reading",
    "check_held_out",
    "course_of",
    "device_of",
    "entries_of_stage",
    "explained",
    "load_of_corpus",
    "next_level",
    "note_device",
    "read_any",
    "warn_of_few_frames",
    "work_of",
]


def add_maximising(parser: argparse.ArgumentParser, mixture: str) -> None:
    """Declare the arguments of all verbs that make iterations."""
    parser.add_argument("--mixture", required=True, help=mixture)
    parser.add_argument("--corpus", required=True, help="corpus.json; the shards lie beside it")
    parser.add_argument("--held-out", help="corpus.json of the held-out frames, if there are any")
    parser.add_argument("--threads", type=int, default=1, help="do not change the result")
    parser.add_argument("--iterations", type=int, default=999, help="of the stage, at most")
    parser.add_argument("--final", action="store_true", help="the stage is the last one")
    parser.add_argument(
        "--device",
        choices=DEVICES,
        help="what computes the E-steps. auto: what did before, or a graphics processor, if there "
        "is one, where the stage takes more than a minute; left out: the processor, and the "
        "training stays free to choose in a later stage",
    )
    add_options(parser, Memory)
    add_options(parser, IterationSettings)
    add_options(parser, Limits)


def course_of(arguments: argparse.Namespace, model: Model, corpus: Corpus) -> Course:
    """Choose what the iterations of the stage read, with the arguments of `add_maximising`."""
    from gmmcore.core.schedule import Course, Stage
    from gmmcore.data.corpus import Corpus

    facts, limits = model.facts, options_of(arguments, Limits)
    stage = Stage(facts["stage"], facts["components"], arguments.iterations, "", arguments.final)
    held_out = Corpus.read(arguments.held_out).digest if arguments.held_out else None
    if limits.stop_on == "held_out" and held_out is None and stage.iterations:
        raise GmmcoreError("--stop-on held_out: expected --held-out, a corpus to hold out")
    return Course.of(
        stage,
        frames=corpus.frames,
        dimension=corpus.dimension,
        held_out=held_out,
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


def work_of(
    arguments: argparse.Namespace,
    corpus: Corpus,
    *,
    share: float = 1.0,
    is_shared: bool = False,
    device: str | None = None,
    place: int = 0,
) -> Work:
    """Return what the E-steps of a stage have in common, with the arguments of `add_maximising`.

    `share` is that of the frames which this process reads, `device` what `device_of` returns, and
    `place` the number of this process among those of the machine that share its devices.
    """
    from gmmcore.core.gpu.device import prepare
    from gmmcore.core.schedule import held_out_level
    from gmmcore.core.teams.base import Work
    from gmmcore.data.corpus import Corpus, CorpusFrames

    if device == "cuda":
        prepare(place)
    settings = options_of(arguments, IterationSettings)
    memory = int(1_000_000 * options_of(arguments, Memory).memory / share)

    @cache
    def frames() -> CorpusFrames:
        return CorpusFrames(corpus, arguments.corpus, memory, is_shared=is_shared)

    @cache
    def outside() -> CorpusFrames:
        left = Corpus.read(arguments.held_out)
        return CorpusFrames(left, arguments.held_out, memory, is_shared=is_shared)

    def held_out(level: int) -> FrameSource:
        return outside().at(held_out_level(level, outside().at(0).frames))

    return Work(
        lambda level: frames().at(level),
        settings.precision,
        settings.pruning,
        held_out if arguments.held_out else None,
        device or "cpu",
    )


def device_of(
    arguments: argparse.Namespace,
    model: Model,
    corpus: Corpus,
    course: Course,
    *,
    is_alone: bool = True,
) -> str | None:
    """Choose what computes the iterations of a stage.

    Jobs that share an iteration (not `is_alone`) cannot choose together. They do as the training
    did before, or as they are told, or else the processor computes.

    Returns
    -------
    str or None
        ``cpu``, ``cuda``, or None for the processor where the stage is too short to have a choice.

    Raises
    ------
    GmmcoreError
        If a device is needed and cannot be had.
    """
    from gmmcore.core.gpu.choice import followed, settled

    wanted, before = arguments.device, settled(model.facts, model.history, corpus.dimension)
    if wanted == "auto" and before is None:
        if not course.takes_long(corpus.frames, corpus.dimension):
            return None
        if not is_alone:
            return "cpu"
    elif wanted is None:
        return None
    return followed(wanted, before)


def note_device(computed_by: str | None, model: Model) -> tuple[str | None, str | None]:
    """Return ``device`` and ``chosen`` of the next mixture's file, and print a line of it.

    `computed_by` is what `gmmcore.core.gpu.device.words_of` returns, and `model` the mixture
    before.
    """
    from gmmcore.core.gpu.choice import kind_of, settled

    before = settled(model.facts, model.history, model.mixture.dimension)
    if computed_by is None:
        if kind_of(before) == "cpu":
            return None, None
        print("device: the processor, because the stage is short", flush=True)
        return None, before
    if before not in (None, computed_by):
        print(
            f"device: the training goes on with {computed_by}; before, it was {before}", flush=True
        )
    elif computed_by != "cpu":
        print(f"device: {computed_by}", flush=True)
    return (None if computed_by == "cpu" else computed_by), None


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
