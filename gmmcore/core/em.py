"""The loop over the iterations of a stage, which workflow, library and `Mixture` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import isnan, nan

from gmmcore.core.acceleration import extrapolated, gathered
from gmmcore.core.estep import Statistics
from gmmcore.core.history import HistoryEntry
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.mstep import Update, maximise
from gmmcore.core.schedule import Course, Stage
from gmmcore.core.settings import MStep

__all__ = ["history_entry", "iterations"]


def history_entry(
    stage: Stage,
    iteration: int,
    level: int,
    statistics: Statistics,
    update: Update,
    settings: MStep,
    gain: float,
    step: str = "plain",
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
        action=settings.action if update.low_count else "",
        smallest_occupancy=update.smallest_occupancy,
        step=step,
        held_out=held_out,
    )


def iterations(
    mixture: GaussianMixture,
    statistics: Callable[[GaussianMixture, int], Statistics],
    course: Course,
    settings: MStep,
    *,
    previous: Sequence[HistoryEntry] = (),
    plain: GaussianMixture | None = None,
    acceleration: str = "none",
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
    plain : GaussianMixture, optional
        What EM made in the iteration before, if `mixture` was extrapolated beyond it.
    acceleration : {'none', 'momentum'}
        Whether diagonal mixtures are extrapolated; see `gmmcore.core.acceleration.extrapolated`.
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
    The likelihood of an extrapolated mixture is known only after the E-step of the next iteration.
    If it is lower than that of the mixture before, that iteration makes nothing of it: its result
    is the mixture of EM from which the extrapolation began, and the E-step is lost.

    Held-out frames are read after each update, so that one that makes them less likely can be
    dropped at once, and the last mixture of a stage has its held-out log-likelihood too.
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
        if plain is not None and not gain >= 0:
            before = entries[-1]
            entry = replace(
                before,
                iteration=before.iteration + 1,
                log_likelihood=found.log_likelihood_per_frame,
                gain=gain,
                step="rejected",
                held_out=reached,
            )
            update = Update(plain, before.floored, before.ceiled, (), before.smallest_occupancy)
        else:
            update = update_of(mixture, found, settings)
            step = "plain" if plain is None else "extrapolated"
            entry = history_entry(
                course.stage, len(entries) + 1, level, found, update, settings, gain, step, reached
            )
        entries.append(entry)
        if acceleration == "momentum" and entry.step != "rejected":
            update = _ahead(
                mixture, mixture if plain is None else plain, update, entries, course, settings
            )
        after = value_of(update.mixture, level)
        update = replace(update, held_out=after, held_out_gain=after - reached)
        if course.falls(update.held_out_gain, entry.step):
            update = replace(update, mixture=mixture, plain=None, ahead=None, held_out=reached)
            entries[-1] = entry = replace(entry, step="dropped")
        reached = update.held_out
        mixture, plain = update.mixture, update.plain
        yield entry, update


def _gain(found: Statistics, level: int, entries: Sequence[HistoryEntry]) -> float:
    """Return the growth of the log-likelihood per frame since the last accepted mixture."""
    accepted = [entry for entry in entries[-2:] if entry.step != "rejected"]
    if not accepted or accepted[-1].level != level:
        return float("nan")
    return found.log_likelihood_per_frame - accepted[-1].log_likelihood


def _ahead(
    mixture: GaussianMixture,
    last: GaussianMixture,
    update: Update,
    entries: Sequence[HistoryEntry],
    course: Course,
    settings: MStep,
) -> Update:
    """Extrapolate the result of an M-step, if the stage goes on with the same frames."""
    low = [component for component, _ in update.low_count]
    # Components that were replaced or removed have no step.
    if mixture.is_full or (low and settings.action != "keep"):
        return update
    entry = entries[-1]
    gain = None if isnan(entry.gain) else entry.gain
    if not course.extrapolates(entry.iteration, entry.level, gain, entry.step):
        return replace(update, ahead=False)
    found = extrapolated(
        mixture,
        update.mixture,
        last,
        gathered(entries),
        settings,
        frames=entry.frames,
        kept=low,
    )
    if found is None:
        return update
    return replace(update, mixture=found, plain=update.mixture, ahead=True)
