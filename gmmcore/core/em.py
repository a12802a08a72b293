"""Expectation-maximisation: the loop over the iterations of a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import isnan, nan

from gmmcore.core.history import HistoryEntry
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.mstep import Update
from gmmcore.core.sums import Statistics


def iterations(
    mixture: GaussianMixture,
    e_step: Callable[[GaussianMixture, int], Statistics],
    m_step: Callable[[GaussianMixture, Statistics], Update],
    next_level: Callable[[Sequence[HistoryEntry]], int | None],
    *,
    history: Sequence[HistoryEntry] = (),
    held_out: Callable[[GaussianMixture, int], float] = lambda mixture, level: nan,
    reached: float = nan,
) -> Iterator[tuple[HistoryEntry, Update]]:
    """Yield the history entry and the update of each iteration, until the stage ends.

    Parameters
    ----------
    mixture : GaussianMixture
        The mixture to start from.
    e_step : callable
        Function that returns the statistics of the subset of a level under a mixture.
    m_step : callable
        Function that makes the next mixture from a mixture and its statistics.
    next_level : callable
        Function that returns the level of the subset that the next iteration reads, or None if the
        stage ended, from the entries of the stage; see `gmmcore.core.schedule.Course.after`.
    history : sequence of HistoryEntry
        Entries of the stage so far; none if `mixture` is the first one of the stage.
    held_out : callable
        Function that returns the log-likelihood per held-out frame under a mixture. It is called
        after each update, so that the last mixture of a stage has a value, too.
    reached : float
        What `held_out` returned for `mixture`; NaN if it is not known.
    """
    entries = [*history]
    while (level := next_level(entries)) is not None:
        goes_on = bool(entries) and entries[-1].level == level
        statistics = e_step(mixture, level)
        update = m_step(mixture, statistics)
        before = entries[-1].log_likelihood if goes_on else nan
        gain = statistics.log_likelihood_per_frame - before
        if isnan(reached) or not goes_on:
            reached = held_out(mixture, level)
        entry = _entry(mixture, len(entries) + 1, level, statistics, update, gain, reached)
        entries.append(entry)
        mixture = update.mixture
        reached = held_out(mixture, level)
        yield entry, replace(update, held_out=reached)


def _entry(
    mixture: GaussianMixture,
    iteration: int,
    level: int,
    statistics: Statistics,
    update: Update,
    gain: float,
    held_out: float,
) -> HistoryEntry:
    """Make the history entry of an iteration."""
    return HistoryEntry(
        stage=mixture.kind,
        components=mixture.components,
        iteration=iteration,
        level=level,
        frames=round(statistics.frames),
        log_likelihood=statistics.log_likelihood_per_frame,
        gain=gain,
        floored=update.floored,
        ceiled=update.ceiled,
        low_count=len(update.low_count),
        smallest_occupancy=update.smallest_occupancy,
        held_out=held_out,
    )
