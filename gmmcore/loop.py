"""The loop over the iterations of a stage, which workflow, library and `Mixture` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import isnan, nan

from gmmcore.acceleration import extrapolated, gathered
from gmmcore.em import Update, maximise
from gmmcore.history import HistoryEntry
from gmmcore.model import GaussianMixture
from gmmcore.schedule import Course, Stage
from gmmcore.statistics import Statistics
from gmmcore.steps import MStep

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
        Whether diagonal mixtures are extrapolated; see `gmmcore.acceleration.extrapolated`.
    update_of : callable
        The M-step: `gmmcore.em.maximise`, or that of a team.
    held_out : callable, optional
        Function that returns the sum of the log-likelihoods of held-out frames under a mixture,
        and their number, for an iteration on the subset of a level.

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
    """
    entries = list(previous)
    while (level := course.after(entries[-1] if entries else None)) is not None:
        found = statistics(mixture, level)
        gain = _gain(found, level, entries)
        total, frames = (nan, 1) if held_out is None else held_out(mixture, level)
        if plain is not None and not gain >= 0:
            before = entries[-1]
            entry = replace(
                before,
                iteration=before.iteration + 1,
                log_likelihood=found.log_likelihood_per_frame,
                gain=gain,
                step="rejected",
                held_out=total / frames,
            )
            update = Update(plain, before.floored, before.ceiled, (), before.smallest_occupancy)
        else:
            update = update_of(mixture, found, settings)
            step = "plain" if plain is None else "extrapolated"
            entry = history_entry(
                course.stage,
                len(entries) + 1,
                level,
                found,
                update,
                settings,
                gain,
                step,
                total / frames,
            )
        entries.append(entry)
        if acceleration == "momentum" and entry.step != "rejected":
            update = _ahead(
                mixture, mixture if plain is None else plain, update, entries, course, settings
            )
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
