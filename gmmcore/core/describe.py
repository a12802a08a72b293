"""What is said of a mixture and of its training: sizes, differences, and cautions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, isnan, log, nan
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.core.history import HistoryEntry
from gmmcore.core.initial import few_of
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.schedule import least_gain
from gmmcore.errors import counted

Array = npt.NDArray[np.float64]
# Least number of coefficients of frames for each free parameter, without a caution: 10 frames for a
# diagonal component, and (D + 3) / 4 times as many for a full one.
_NUMBERS = 5
# Largest number of shows that a line names.
_NAMED = 5
# Variances up to so many floors are at their floor: covariances are inverted, and eigenvalues that
# are at their floor leave the variances a little more.
_AT_FLOOR = 1.01


def describe(mixture: GaussianMixture) -> dict[str, Any]:
    """Compute sizes, weights, variances or eigenvalues, and condition numbers of a mixture."""
    spread = mixture.covariances
    if mixture.is_full:  # The precisions are stored, so that no matrix has to be inverted.
        spread = np.reciprocal(np.linalg.eigvalsh(mixture.precisions), dtype=np.float64)
    condition = spread.max(axis=1) / spread.min(axis=1)
    weights = mixture.weights / mixture.weights.sum()
    positive = weights[weights > 0]
    entropy = float(-(positive * np.log(positive)).sum())
    return {
        "components": mixture.components,
        "dimension": mixture.dimension,
        "covariances": "full" if mixture.is_full else "diagonal",
        "parameters": mixture.parameters,
        "weight_smallest": float(mixture.weights.min()),
        "weight_largest": float(mixture.weights.max()),
        "weight_entropy": entropy,
        "weights_effective": float(np.exp(entropy)),
        "variance_smallest": float(spread.min()),
        "variance_smallest_component": int(spread.min(axis=1).argmin()),
        "variance_largest": float(spread.max()),
        "variance_largest_component": int(spread.max(axis=1).argmax()),
        "condition_median": float(np.median(condition)),
        "condition_largest": float(condition.max()),
        "condition_largest_component": int(condition.argmax()),
        "variance_control": mixture.variance_control is not None,
    }


@dataclass(frozen=True)
class Difference:
    """Largest differences between two mixtures of one shape, component by component."""

    weights: float
    means: float  # In standard deviations of the first mixture.
    covariances: float  # Relative to the product of two of its standard deviations.

    @property
    def largest(self) -> float:
        """Largest of the three differences."""
        return max(self.weights, self.means, self.covariances)


def difference(first: GaussianMixture, second: GaussianMixture) -> Difference:
    """Compute the largest differences between two mixtures of one shape."""
    full = first.is_full or second.is_full
    one, other = (_covariances(mixture, full) for mixture in (first, second))
    variances = np.diagonal(one, axis1=1, axis2=2) if full else one
    deviations = np.sqrt(variances)
    unit = deviations[:, :, np.newaxis] * deviations[:, np.newaxis, :] if full else variances
    with np.errstate(over="ignore"):
        return Difference(
            float(np.abs(first.weights - second.weights).max()),
            float((np.abs(first.means - second.means) / deviations).max()),
            float((np.abs(one - other) / unit).max()),
        )


def _covariances(mixture: GaussianMixture, full: bool) -> Array:
    if full and not mixture.is_full:
        return mixture.covariances[:, :, np.newaxis] * np.eye(mixture.dimension)
    return mixture.covariances


@dataclass(frozen=True)
class Size:
    """What is known of the last mixture of a stage, as a model to choose."""

    kind: str
    components: int
    parameters: int
    iterations: int
    trained_on: int  # Frames that the last iteration read.
    frames: int
    log_likelihood: float  # Per frame, on frames that are the same for all sizes.
    held_out: float  # The same on the held-out frames; NaN without them.
    ended: str  # "converged", "limit" (of iterations), or empty without iterations.
    gain: float  # What was left at the limit; NaN if none or not known.

    @property
    def name(self) -> str:
        """Name of the stage, such as ``diag/64``."""
        return f"{self.kind}/{self.components}"

    @property
    def bic(self) -> float:
        """Bayesian information criterion, as in scikit-learn; lower is better."""
        return -2 * self.frames * self.log_likelihood + self.parameters * log(self.frames)

    @property
    def aic(self) -> float:
        """Akaike information criterion, as in scikit-learn; lower is better."""
        return -2 * self.frames * self.log_likelihood + 2 * self.parameters


def sizes(
    mixtures: Mapping[tuple[str, int], tuple[GaussianMixture, float, float]],
    history: Sequence[HistoryEntry],
    frames: int,
    llk_gain: float,
    last_gain: float = inf,
) -> tuple[Size, ...]:
    """Gather what is known of the last mixture of each stage, with its log-likelihoods."""
    result = []
    final = [*mixtures][-1:]
    for (kind, components), (mixture, value, held_out) in mixtures.items():
        entries = [e for e in history if (e.stage, e.components) == (kind, components)]
        gain = gain_left(entries, llk_gain, last_gain if [(kind, components)] == final else inf)
        result.append(
            Size(
                kind,
                components,
                mixture.parameters,
                iterations=len(entries),
                trained_on=entries[-1].frames if entries else 0,
                frames=frames,
                log_likelihood=value,
                held_out=held_out,
                ended="" if not entries else "converged" if gain is None else "limit",
                gain=nan if gain is None else gain,
            )
        )
    return tuple(result)


def cautions(
    mixture: GaussianMixture,
    history: Sequence[HistoryEntry],
    llk_gain: float,
    floor: float,
    last_gain: float = inf,
    *,
    is_told: bool = False,
) -> list[str]:
    """Say in lines what a person should know before the mixture is used."""
    if not history:
        return []
    last = history[-1]
    frames = max(entry.frames for entry in history)
    found = [few_frames(frames, mixture.components, mixture.dimension, full=mixture.is_full)]
    parted = _parted(history, llk_gain)
    entries = [entry for entry in history if _words(entry) == _words(last)]
    gain = gain_left(entries, llk_gain, last_gain)
    # More iterations would only fit the training frames better still.
    if gain is not None and not parted:
        raised = "full.iterations" if last.stage == "full" else "iterations"
        still = (
            ", too few to tell whether more would gain"
            if isnan(gain)
            else f", and still gained {gain:.3g} per frame in the last of them, more than "
            + (f"llk_gain ({llk_gain:g})" if gain >= llk_gain else f"last_gain ({last_gain:g})")
        )
        found.append(
            f"{_words(last)} ended after {counted(last.iteration, 'iteration')}, its limit{still}: "
            f"raise {raised}"
        )
    if last.low_count:
        least = last.smallest_occupancy
        found.append(
            f"{last.low_count} of {mixture.components} components have a low count, and the "
            f"smallest holds {'no frame' if least < 1 else f'{least:.1f} frames'}: train fewer "
            "components or bring more shows"
        )
    found.append(floored(mixture, floor))
    return [line for line in (found[1:] if is_told else [*found, parted]) if line]


def few_frames(frames: int, components: int, dimension: int, *, full: bool) -> str:
    """Say in one line that components have few frames for their parameters; empty if not."""
    parameters = 1 + dimension + (dimension * (dimension + 1) // 2 if full else dimension)
    if frames * dimension >= _NUMBERS * components * parameters:
        return ""
    needed = -(-_NUMBERS * parameters // dimension)
    kind = "full" if full else "diagonal"
    remedy = ", bring more frames or raise full.prior" if full else " or bring more frames"
    return (
        f"{frames} frames are {frames / components:.1f} for each of {components} {kind} "
        f"components of {parameters} parameters; with fewer than {needed} they may fit these "
        f"frames only: train fewer components{remedy}"
    )


def too_few(frames: int, components: int) -> str:
    """Say in one line that there are fewer frames than components; empty if there are not."""
    if frames >= components:
        return ""
    return (
        f"components: {components}, but there are only {frames} frames; give a smaller "
        "`components`, or bring more frames"
    )


def outliers(found: Sequence[tuple[int, str]], frames: float) -> str:
    """Say in one line in which dimensions few frames make most of the variance, and their shows."""
    if not found:
        return ""
    few = few_of(frames)
    share, verb = (f"at most {few}", "make") if few > 1 else ("1", "makes")
    told = "look at the smallest and largest values, and leave out frames that are wrong"
    if names := ", ".join([*dict.fromkeys(show for _, show in found if show)][:_NAMED]):
        told = f"look at show {names}, which has the farthest, and correct it or leave it out"
    return (
        f"{share} of {int(frames)} frames {verb} more than half of the variance in dimension "
        f"{', '.join(str(at) for at, _ in found)} (counted from 0): {told}"
    )


def floored(mixture: GaussianMixture, floor: float) -> str:
    """Say in one line where most components have a variance at the floor; empty if nowhere."""
    if mixture.variance_control is None or mixture.kind == "spherical":
        return ""
    variances, count = mixture.covariances, mixture.components
    if mixture.is_full:
        variances = np.diagonal(variances, axis1=1, axis2=2)
    low = (variances <= _AT_FLOOR * floor * mixture.variance_control).sum(axis=0)
    # Where all components are equal, all frames are, which is told as such.
    apart = np.ptp(mixture.means, axis=0) ** 2 > variances.max(axis=0)
    chosen = np.flatnonzero(apart & (2 * low > count))
    if not chosen.size:
        return ""
    return (
        f"the variance is at its floor in dimension "
        f"{', '.join(f'{at} ({low[at]} of {count} components)' for at in chosen)}, counted from 0: "
        "leave out dimensions of few distinct values"
    )


def gain_left(
    entries: Sequence[HistoryEntry], llk_gain: float, last_gain: float = inf
) -> float | None:
    """Return the last gain of a stage that ended by its limit; None if it converged.

    The final stage has a `last_gain`.
    """
    # The first iteration on other frames has no gain, so that the one before counts; NaN if the
    # stage has too few iterations to tell.
    known = [entry.gain for entry in entries if isfinite(entry.gain)]
    if not known:
        return nan if entries else None
    return known[-1] if known[-1] >= least_gain(llk_gain, last_gain, entries[0].level) else None


def highest(history: Sequence[HistoryEntry]) -> HistoryEntry | None:
    """Return the iteration before which the held-out likelihood was highest; None without any."""
    # Iterations on subsets of other sizes have other held-out frames, too.
    level = history[-1].level if history else 0
    known = [entry for entry in history if isfinite(entry.held_out) and entry.level == level]
    return max(known, key=lambda entry: entry.held_out, default=None)


def _parted(history: Sequence[HistoryEntry], llk_gain: float) -> str:
    """Say that the held-out likelihood fell while that of the training frames rose."""
    best, last = highest(history), history[-1]
    if best is None or not isfinite(last.held_out):
        return ""
    fell = best.held_out - last.held_out
    if fell < max(llk_gain, 0) or last.log_likelihood <= best.log_likelihood:
        return ""
    return (
        f"the held-out log-likelihood per frame fell from {best.held_out:.4f} (before "
        f"iteration {best.iteration} of {_words(best)}) to {last.held_out:.4f}, while that of "
        f"the training frames rose from {best.log_likelihood:.4f} to {last.log_likelihood:.4f}: "
        f"the training fits its own frames only; end at {_words(best)}, or bring more shows"
    )


def _words(entry: HistoryEntry) -> str:
    return f"{entry.stage} {entry.components}"
