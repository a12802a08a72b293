"""Steps beyond those of EM, so that slow trainings converge in fewer iterations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gmmcore.core.history import HistoryEntry
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.settings import MStep

__all__ = ["extrapolated", "gathered"]

Array = npt.NDArray[np.float64]
# How much further than the step of EM the mixture goes. EM with a longer step converges as long as
# it is less than twice as long (Peters and Walker 1978).
_RELAXATION = 0.5
# The momentum after n iterations is n / (n + 2), about as in Nesterov's method.
_DELAY = 2
# Least weight of a component, in frames: that of the M-step.
_LEAST_OCCUPANCY = 1e-3


def gathered(entries: Sequence[HistoryEntry]) -> int:
    """Return how many iterations the momentum was gathered in, after the last of `entries`.

    Momentum begins anew with the first mixture of a stage, with other frames, and after a rejected
    mixture.

    Parameters
    ----------
    entries : sequence of HistoryEntry
        History entries of the stage so far, at least one.

    Examples
    --------
    >>> from gmmcore.core.acceleration import gathered
    >>> from gmmcore.core.history import HistoryEntry
    >>> def entry(step):
    ...     return HistoryEntry("diag", 2, 1, 0, 9, -1.0, 0.1, 0, 0, 0, "", 4.0, step)
    >>> gathered([entry("rejected"), entry("plain"), entry("extrapolated")])
    1
    """
    count = 0
    for entry in reversed(entries):
        if entry.level != entries[-1].level or entry.step == "rejected":
            break
        count += 1
    return max(count - 1, 0)


def extrapolated(
    mixture: GaussianMixture,
    plain: GaussianMixture,
    last: GaussianMixture,
    iterations: int,
    settings: MStep,
    *,
    frames: int,
    kept: Sequence[int] = (),
) -> GaussianMixture | None:
    """Extrapolate the step that EM takes from a mixture.

    The step of EM is taken one and a half times, and part of the way between the last two results
    of EM is added, as in Nesterov's method: the more, the longer no mixture was rejected. This is
    done to the means and to the logarithms of weights and variances, where every point is a
    mixture.

    Parameters
    ----------
    mixture : GaussianMixture
        The mixture that an iteration started from, with diagonal covariances.
    plain : GaussianMixture
        The mixture that EM makes of it.
    last : GaussianMixture
        The mixture that EM made in the iteration before.
    iterations : int
        Number of iterations in which momentum was gathered; see `gathered`.
    settings : MStep
        Bounds of the variances.
    frames : int
        Number of frames that the iteration read.
    kept : sequence of int
        Components of which only the weight is extrapolated.

    Returns
    -------
    GaussianMixture or None
        The extrapolated mixture; None if it is not finite, or if there are no variances that the
        bounds are relative to. Its likelihood may be lower than that of `mixture`.

    Notes
    -----
    Over-relaxation was proposed by Peters and Walker (1978) and by Salakhutdinov and Roweis (2003),
    momentum by Nesterov (1983).

    Examples
    --------
    >>> from gmmcore import GaussianMixture
    >>> from gmmcore.core.acceleration import extrapolated
    >>> from gmmcore.core.settings import MStep
    >>> second, third = (
    ...     GaussianMixture([1.0], [[mean]], [[1.0]], [[1.0]]) for mean in (1.0, 2.0)
    ... )
    >>> extrapolated(second, third, second, 2, MStep(), frames=10).means
    array([[3.]])
    """
    control = plain.variance_control
    if control is None:
        return None
    momentum = iterations / (iterations + _DELAY)
    least = _LEAST_OCCUPANCY / frames

    def beyond(here: Array, there: Array, before: Array) -> Array:
        return there + _RELAXATION * (there - here) + momentum * (there - before)

    logs = [np.log(np.maximum(one.weights, least)) for one in (mixture, plain, last)]
    log_weights = beyond(*logs)
    weights = np.exp(log_weights - log_weights.max())
    weights = np.maximum(weights / weights.sum(), least)
    means = beyond(mixture.means, plain.means, last.means)
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        variances = np.exp(-beyond(*(np.log(one.precisions) for one in (mixture, plain, last))))
        variances = np.clip(variances, settings.floor * control, settings.ceiling * control)
        precisions = 1.0 / variances
    chosen = list(kept)
    means[chosen] = plain.means[chosen]
    precisions[chosen] = plain.precisions[chosen]
    # A variance may be so small or large that there is no precision, if the bounds allow it.
    if not (np.isfinite(means).all() and np.isfinite(precisions).all() and (precisions > 0).all()):
        return None
    return GaussianMixture(weights / weights.sum(), means, precisions, control)
