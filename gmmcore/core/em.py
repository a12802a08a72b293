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

    `next_level` says which subset of the frames an iteration reads, or None at the end of the
    stage, from its entries so far, of which `history` has the first; see `Course.next_level`. If
    `held_out` returned a log-likelihood for the first mixture already, it is `reached`.
    """
    entries = [*history]
    while (level := next_level(entries)) is not None:
        goes_on = bool(entries) and entries[-1].level == level
        statistics = e_step(mixture, level)
        update = m_step(mixture, statistics)
        before = entries[-1].log_likelihood if goes_on else nan
        if isnan(reached) or not goes_on:
            reached = held_out(mixture, level)
        entry = HistoryEntry(
            stage=mixture.kind,
            components=mixture.components,
            iteration=len(entries) + 1,
            level=level,
            frames=round(statistics.frames),
            log_likelihood=statistics.log_likelihood_per_frame,
            gain=statistics.log_likelihood_per_frame - before,
            floored=update.floored,
            ceiled=update.ceiled,
            low_count=len(update.low_count),
            smallest_occupancy=update.smallest_occupancy,
            held_out=reached,
        )
        entries.append(entry)
        mixture = update.mixture
        # The last mixture of a stage has a value, too.
        reached = held_out(mixture, level)
        yield entry, replace(update, held_out=reached)
