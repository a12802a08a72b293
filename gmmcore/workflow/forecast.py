"""What the iterations of a run that are to come read and cost, at most."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gmmcore.config.options import mapping
from gmmcore.core.costs import megabytes, seconds, useful_workers
from gmmcore.core.schedule import LARGEST_LEVEL, Course, Stage, held_out_level
from gmmcore.data.corpus import Corpus

if TYPE_CHECKING:
    from gmmcore.workflow.runs import Run

__all__ = ["Forecast", "FrameCounts", "forecast", "seconds_of_iteration"]

# The log-likelihood alone is one of the two matrix products of an E-step.
_HELD_OUT_SHARE = 0.5


@dataclass(frozen=True)
class FrameCounts:
    """How many frames there are.

    Attributes
    ----------
    subsets : tuple of int
        Number of frames of the subset of each level; that of level 0 is all of them.
    dimension : int
        Dimension D of a frame.
    held_out : tuple of int
        The same as `subsets` for the held-out frames; empty if there are none.
    """

    subsets: tuple[int, ...]
    dimension: int
    held_out: tuple[int, ...] = ()

    @classmethod
    def of_corpus(cls, corpus: Corpus, held_out: Corpus | None = None) -> FrameCounts:
        """Take the counts of the shards."""
        return cls(_totals(corpus), corpus.dimension, _totals(held_out) if held_out else ())

    @classmethod
    def of_number(cls, frames: int, dimension: int, share: float = 0.0) -> FrameCounts:
        """Estimate the counts of so many frames, of which a share is held out."""
        outside = round(share * frames)
        return cls(_halved(frames - outside), dimension, _halved(outside) if outside else ())

    @property
    def frames(self) -> int:
        """Number of all frames to train on."""
        return self.subsets[0]

    def outside(self, level: int) -> int:
        """Return the number of held-out frames that an iteration of a level reads."""
        return self.held_out[held_out_level(level, self.held_out[0])] if self.held_out else 0


@dataclass(frozen=True)
class Forecast:
    """The iterations of a stage that are to come, at most: it may end before its limit.

    Attributes
    ----------
    stage : Stage
    frames : tuple of int
        Number of frames that each iteration reads.
    seconds : tuple of float
        How long each takes, about, on a processor as `gmmcore.core.costs` knows it.
    megabytes : int
        Memory that they need, about.
    """

    stage: Stage
    frames: tuple[int, ...]
    seconds: tuple[float, ...]
    megabytes: int


def forecast(
    run: Run,
    stage: Stage,
    counts: FrameCounts,
    cores: int,
    place: tuple[int, int, float | None, str] = (0, 0, None, "plain"),
) -> Forecast:
    """Forecast the rest of a stage.

    Parameters
    ----------
    run : Run
    stage : Stage
        One of the run's plan.
    counts : FrameCounts
    cores : int
        Number of workers of the stage, at most.
    place
        The iteration after which it goes on: the arguments of `Course.next_level`.
    """
    course = Course.of(
        stage,
        frames=counts.frames,
        dimension=counts.dimension,
        **mapping(run.settings.limits),
    )
    levels: list[int] = []
    while (level := course.next_level(*place)) is not None:
        levels.append(level)
        place = place[0] + 1, level, None, "plain"
    frames = tuple(counts.subsets[level] for level in levels)
    size = stage.components, counts.dimension
    is_full, most = stage.kind == "full", max(frames, default=0)
    return Forecast(
        stage,
        frames,
        tuple(seconds_of_iteration(stage, counts, level, cores) for level in levels),
        megabytes(
            *size,
            full=is_full,
            workers=useful_workers(most, *size, full=is_full, most=cores),
            kept=min(most, run.settings.memory * 1_000_000 // (4 * counts.dimension)),
        ),
    )


def seconds_of_iteration(stage: Stage, counts: FrameCounts, level: int, cores: int) -> float:
    """Estimate the seconds of an iteration that reads the subset of a level."""
    size, is_full = (stage.components, counts.dimension), stage.kind == "full"
    frames, outside = counts.subsets[level], counts.outside(level)
    total = seconds(frames, *size, full=is_full)
    total += _HELD_OUT_SHARE * seconds(outside, *size, full=is_full)
    return total / useful_workers(frames, *size, full=is_full, most=cores)


def _totals(corpus: Corpus) -> tuple[int, ...]:
    counts: Iterable[tuple[int, ...]] = zip(*(s.subsets for s in corpus.shards), strict=True)
    return tuple(map(sum, counts))


def _halved(frames: int) -> tuple[int, ...]:
    return tuple(frames >> level for level in range(LARGEST_LEVEL + 1))
