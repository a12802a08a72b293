"""The loop over the iterations of a stage, which workflow, library and `Mixture` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import isnan, nan

from gmmcore.core.history import HistoryEntry
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.mstep import Update, maximise
from gmmcore.core.schedule import Course, Stage
from gmmcore.core.settings import MStep
from gmmcore.core.sums import Statistics

__all__ = ["history_entry", "iterations"]


def history_entry(
    stage: Stage,
    iteration: int,
    level: int,
    statistics: Statistics,
    update: Update,
    gain: float,
    held_out: float = nan,
) -> HistoryEntry:
    """Make the history entry of an iteration."""
    return HistoryEntry(
        stage=stage.kind,
        components=stage.components,
        iteration=iteration,
        level=level,
        frames=statistics.frames,
        log_likelihood=statistics.log_likelihood_per_frame,
        gain=gain,
        floored=update.floored,
        ceiled=update.ceiled,
        low_count=len(update.low_count),
        smallest_occupancy=update.smallest_occupancy,
        held_out=held_out,
    )


def iterations(
    mixture: GaussianMixture,
    statistics: Callable[[GaussianMixture, int], Statistics],
    course: Course,
    settings: MStep,
    *,
    previous: Sequence[HistoryEntry] = (),
    update_of: Callable[[GaussianMixture, Statistics, MStep], Update] = maximise,
    held_out: Callable[[GaussianMixture, int], tuple[float, int]] | None = None,
    reached: float = nan,
) -> Iterator[tuple[HistoryEntry, Update]]:
    """Iterate EM until the course of a stage ends.

    Parameters
    ----------
    mixture : GaussianMixture
        The mixture to start from.
    statistics : callable
        Function that returns the statistics under a mixture of the subset of a level.
    course : Course
    settings : MStep
    previous : sequence of HistoryEntry
        History entries of the stage so far; none if `mixture` is the stage's first one.
    update_of : callable
        The M-step: `gmmcore.core.mstep.maximise`, or that of a team.
    held_out : callable, optional
        Function that returns the sum of the log-likelihoods of held-out frames under a mixture, and
        their number, in an iteration of a level.
    reached : float
        Held-out log-likelihood per frame of `mixture`: ``held_out`` of the last update. NaN if
        there is none.

    Yields
    ------
    entry : HistoryEntry
        History entry of an iteration.
    update : Update
        Result of its M-step. The next iteration starts when the caller asks for it.

    Notes
    -----
    Held-out frames are read after each update, so that the last mixture of a stage has its held-out
    log-likelihood, too.
    """
    entries = list(previous)

    def value_of(mixture: GaussianMixture, level: int) -> float:
        total, frames = held_out(mixture, level) if held_out is not None else (nan, 1)
        return total / frames

    while (level := course.after(entries[-1] if entries else None)) is not None:
        found = statistics(mixture, level)
        if isnan(reached) or not entries or entries[-1].level != level:
            reached = value_of(mixture, level)
        gain = _gain(found, level, entries)
        update = update_of(mixture, found, settings)
        entry = history_entry(course.stage, len(entries) + 1, level, found, update, gain, reached)
        entries.append(entry)
        mixture, reached = update.mixture, value_of(update.mixture, level)
        update = replace(update, held_out=reached)
        yield entry, update


def _gain(found: Statistics, level: int, entries: Sequence[HistoryEntry]) -> float:
    """Return the growth of the log-likelihood per frame since the iteration before."""
    if not entries or entries[-1].level != level:
        return nan
    return found.log_likelihood_per_frame - entries[-1].log_likelihood
