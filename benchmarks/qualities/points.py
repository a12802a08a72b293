"""The points of curves: processor seconds so far, and what the mixture is worth by then."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from benchmarks.qualities.corpora import Corpus, Frames
from gmmcore.core.estep import accumulate
from gmmcore.core.mixture import GaussianMixture

__all__ = [
    "PRECISION",
    "PRUNING",
    "Curve",
    "Point",
    "Record",
    "append_points",
    "curves",
    "read_points",
]

PRECISION, PRUNING = "single", 2e-8  # The workflow's defaults.
_HELD_OUT = 20_000
_TRAINING = 100_000


@dataclass(frozen=True)
class Point:
    """A mixture on its way.

    Attributes
    ----------
    corpus, contender : str
    components : int
        Number of components that are wanted in the end.
    seed : int
    phase : str
        ``schedule``, or ``more`` for iterations after the schedule's end.
    size : int
        Number of components by now.
    seconds : float
        Processor seconds of the training so far.
    held_out, training : float
        Log-likelihoods per frame.
    """

    corpus: str
    components: int
    contender: str
    seed: int
    phase: str
    size: int
    seconds: float
    held_out: float
    training: float


@dataclass(frozen=True)
class Curve:
    """The points of one training, in their order."""

    points: tuple[Point, ...]

    @property
    def end(self) -> Point:
        """The end of the schedule."""
        return [point for point in self.points if point.phase == "schedule"][-1]

    def at(self, seconds: float) -> Point | None:
        """The last point within the time."""
        found = [point for point in self.points if point.seconds <= seconds]
        return found[-1] if found else None


class Record:
    """A clock of processor time that stands still while mixtures are evaluated."""

    def __init__(self, corpus: Corpus, components: int, contender: str, seed: int) -> None:
        self.components = components
        self._key = (corpus.name, components, contender, seed)
        self._held_out = _thinned(corpus.held_out, _HELD_OUT)
        training = corpus.training
        self._training = training if len(training) <= _TRAINING else _thinned(training, _HELD_OUT)
        self.points: list[Point] = []
        self.seconds = 0.0
        self._since: float | None = time.process_time()

    def pause(self) -> None:
        """Stop the clock."""
        if self._since is not None:
            self.seconds += time.process_time() - self._since
        self._since = None

    def resume(self) -> None:
        """Let a clock that was stopped go on."""
        if self._since is None:
            self._since = time.process_time()

    def add(self, mixture: GaussianMixture, phase: str = "schedule") -> None:
        """Add a point; the clock goes on after it."""
        self.pause()
        values = [_log_likelihood(mixture, each) for each in (self._held_out, self._training)]
        self.points.append(Point(*self._key, phase, mixture.components, self.seconds, *values))
        self.resume()


def _thinned(frames: Frames, count: int) -> Frames:
    """At most so many of the frames, evenly spaced."""
    if len(frames) <= count:
        return frames
    return frames[np.linspace(0, len(frames) - 1, count).astype(int)]


def _log_likelihood(mixture: GaussianMixture, frames: Frames) -> float:
    found = accumulate(mixture, frames, precision=PRECISION, pruning=PRUNING)
    return found.log_likelihood_per_frame


def append_points(path: Path, points: Iterable[Point]) -> None:
    """Append points to a tab-separated file; make it, with a header line, if it is not there."""
    names = [field.name for field in fields(Point)]
    lines = [] if path.exists() else ["\t".join(names)]
    for point in points:
        cells = (getattr(point, name) for name in names)
        lines.append("\t".join(f"{c:.4f}" if isinstance(c, float) else str(c) for c in cells))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def read_points(path: Path) -> list[Point]:
    """Read the points of a file; none where it is absent."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    kinds = (str, int, str, int, str, int, float, float, float)
    return [
        Point(*(kind(cell) for kind, cell in zip(kinds, line.split("\t"), strict=True)))
        for line in lines
    ]


def curves(
    points: Iterable[Point], order: Sequence[str]
) -> dict[tuple[str, int], dict[str, list[Curve]]]:
    """Sort points: by corpus and components, by contender in their order, a curve for each seed.

    Real features come first, and of draws the fewest.
    """
    found: dict[tuple[str, int], dict[str, dict[int, list[Point]]]] = {}
    for point in points:
        contenders = found.setdefault((point.corpus, point.components), {})
        contenders.setdefault(point.contender, {}).setdefault(point.seed, []).append(point)

    def place(key: tuple[str, int]) -> tuple[int, int, str, int]:
        made = ("demonstration", "draws")
        group = next((n for n, name in enumerate(made, 1) if key[0].startswith(name)), 0)
        return group, len(key[0]), key[0], key[1]

    def rank(name: str) -> int:
        return order.index(name) if name in order else len(order)

    return {
        key: {
            name: [Curve(tuple(seeds[seed])) for seed in sorted(seeds)]
            for name, seeds in sorted(found[key].items(), key=lambda each: rank(each[0]))
        }
        for key in sorted(found, key=place)
    }
