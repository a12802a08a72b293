"""Cautions about a finished training, in plain words and with what to change."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, isnan, nan
from typing import TYPE_CHECKING

from gmmcore.core.history import HistoryEntry
from gmmcore.errors import counted

if TYPE_CHECKING:
    from gmmcore.core.mixture import GaussianMixture

__all__ = ["cautions", "few_frames", "gain_left"]

# Least number of coefficients of frames for each free parameter, without a caution.
_NUMBERS = 5


def cautions(
    mixture: GaussianMixture, history: Sequence[HistoryEntry], llk_gain: float
) -> list[str]:
    """Say what a person should know before a mixture is used.

    Parameters
    ----------
    mixture : GaussianMixture
        The final mixture of a training.
    history : sequence of HistoryEntry
        The iterations that led to it.
    llk_gain : float
        A stage ends when the log-likelihood per frame grows by less (natural logarithm).

    Returns
    -------
    list of str
        One line for each caution; empty if there is none.
    """
    if not history:
        return []
    last = history[-1]
    frames = max(entry.frames for entry in history)
    found = [few_frames(frames, mixture.components, mixture.dimension, full=mixture.is_full)]
    parted = _parted(history, llk_gain)
    gain = gain_left([e for e in history if _stage(e) == _stage(last)], llk_gain)
    # More iterations would only fit the training frames better still.
    if gain is not None and not parted:
        raised = "full.iterations" if last.stage == "full" else "iterations"
        still = (
            ", too few to tell whether more would gain"
            if isnan(gain)
            else f", and still gained {gain:.3g} per frame in the last of them, more than llk_gain "
            f"({llk_gain:g})"
        )
        found.append(
            f"{_words(last)} ended after {counted(last.iteration, 'iteration')}, all that it is "
            f"allowed{still}: raise {raised}"
        )
    if last.low_count:
        least = last.smallest_occupancy
        found.append(
            f"{last.low_count} of {mixture.components} components have a low count, and the "
            f"smallest holds {'no frame' if least < 1 else f'{least:.1f} frames'}: train fewer "
            "components or bring more shows"
        )
    return [line for line in [*found, parted] if line]


def few_frames(frames: int, components: int, dimension: int, *, full: bool) -> str:
    """Say in one line that components have few frames for their parameters; empty if they have not.

    Few are less than 5 numbers for each free parameter: 10 frames for a diagonal component, and
    (D + 3) / 4 times as many for a full one.

    Examples
    --------
    >>> from gmmcore.core.cautions import few_frames
    >>> few_frames(300, 16, 60, full=False)
    ''
    """
    parameters = 1 + dimension + (dimension * (dimension + 1) // 2 if full else dimension)
    if frames * dimension >= _NUMBERS * components * parameters:
        return ""
    needed = -(-_NUMBERS * parameters // dimension)
    kind = "full" if full else "diagonal"
    remedy = ", bring more shows or raise full.prior" if full else " or bring more shows"
    return (
        f"{frames} frames are {frames / components:.1f} for each of {components} {kind} "
        f"components of {parameters} parameters; with fewer than {needed} they may fit these "
        f"frames only: train fewer components{remedy}"
    )


def gain_left(entries: Sequence[HistoryEntry], llk_gain: float) -> float | None:
    """Return the last gain of a stage that ended by its limit; None if it ended by itself.

    Parameters
    ----------
    entries : sequence of HistoryEntry
        The iterations of the stage.
    llk_gain : float
        The stage converged if the log-likelihood per frame grew by less.

    Returns
    -------
    float or None
        The last known gain. The first iteration on other frames has none, so that the one before
        counts; NaN if the stage has too few iterations to tell.
    """
    known = [entry.gain for entry in entries if isfinite(entry.gain)]
    if not known:
        return nan if entries else None
    return known[-1] if known[-1] >= llk_gain else None


def _parted(history: Sequence[HistoryEntry], llk_gain: float) -> str:
    """Say that the held-out likelihood fell while that of the training frames rose."""
    # Iterations on subsets of other sizes have other held-out frames, too.
    known = [
        entry for entry in history if isfinite(entry.held_out) and entry.level == history[-1].level
    ]
    if not known:
        return ""
    best, last = max(known, key=lambda entry: entry.held_out), known[-1]
    fell = best.held_out - last.held_out
    if fell < max(llk_gain, 0) or last.log_likelihood <= best.log_likelihood:
        return ""
    return (
        f"the held-out log-likelihood per frame fell from {best.held_out:.4f} (before "
        f"iteration {best.iteration} of {_words(best)}) to {last.held_out:.4f}, while that of "
        f"the training frames rose from {best.log_likelihood:.4f} to {last.log_likelihood:.4f}: "
        f"the training fits its own frames only; end at {_words(best)}, or bring more shows"
    )


def _stage(entry: HistoryEntry) -> tuple[str, int]:
    return entry.stage, entry.components


def _words(entry: HistoryEntry) -> str:
    return f"{entry.stage} {entry.components}"
