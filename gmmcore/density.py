"""Log-likelihoods and posteriors of frames under a mixture, in float64 and in the log domain.

These are the exact functions: they choose the form of the quadratic that keeps its digits. The
E-step has kernels of its own (`gmmcore.statistics`), which are tested against these.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gmmcore.model import GaussianMixture

__all__ = [
    "component_log_likelihoods",
    "constants",
    "log_likelihood",
    "log_sum_exp",
    "posteriors",
]

Array = npt.NDArray[np.float64]
LOG_TWO_PI = float(np.log(2.0 * np.pi))
_BLOCK = 4096
# The expanded quadratic loses eps * (sum of its terms); above this we subtract the means first.
_EXPANSION_TOLERANCE = 1e-10


def constants(mixture: GaussianMixture) -> Array:
    """Logarithm of each component's weight and normalising factor.

    ``log w_c - (D log 2 pi + log det S_c) / 2``, shape (C,), float64; -inf for a weight of zero.
    """
    return mixture.log_weights - 0.5 * (mixture.dimension * LOG_TWO_PI + mixture.log_determinants)


def component_log_likelihoods(mixture: GaussianMixture, frames: npt.ArrayLike) -> Array:
    """``log(w_c N(x; mean_c, S_c))`` of every frame and component.

    Parameters
    ----------
    mixture : GaussianMixture
    frames : array_like, shape (F, D)

    Returns
    -------
    ndarray, shape (F, C), float64
        Natural logarithms, not normalised over the components.

    Raises
    ------
    ValueError
        If the frames have another dimension than the mixture.
    """
    values = _checked(mixture, frames)
    result = np.empty((values.shape[0], mixture.components))
    for start in range(0, values.shape[0], _BLOCK):
        block = values[start : start + _BLOCK]
        out = result[start : start + _BLOCK]
        if mixture.is_full:
            _quadratic_full(mixture, block, out)
        else:
            _quadratic_diagonal(mixture, block, out)
    result *= -0.5
    result += constants(mixture)
    return result


def log_likelihood(mixture: GaussianMixture, frames: npt.ArrayLike) -> Array:
    """Natural logarithm of the mixture's density at every frame, shape (F,), float64."""
    values = _checked(mixture, frames)
    result = np.empty(values.shape[0])
    for start in range(0, values.shape[0], _BLOCK):
        block = values[start : start + _BLOCK]
        result[start : start + _BLOCK] = log_sum_exp(component_log_likelihoods(mixture, block))
    return result


def posteriors(mixture: GaussianMixture, frames: npt.ArrayLike) -> Array:
    """Probability of every component given every frame, shape (F, C), float64; rows sum to 1."""
    logs = component_log_likelihoods(mixture, frames)
    logs -= log_sum_exp(logs)[:, np.newaxis]
    return np.exp(logs, out=logs)


def log_sum_exp(logs: Array) -> Array:
    """``log(sum(exp(logs), axis=1))`` without overflow, shape (F,)."""
    top = logs.max(axis=1)
    return np.log(np.exp(logs - top[:, np.newaxis]).sum(axis=1)) + top


def _checked(mixture: GaussianMixture, frames: npt.ArrayLike) -> Array:
    values = np.asarray(frames, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != mixture.dimension:
        raise ValueError(f"frames have shape {values.shape}, (F, {mixture.dimension}) was expected")
    return values


def _quadratic_diagonal(mixture: GaussianMixture, block: Array, out: Array) -> None:
    origin = mixture.overall_mean
    frames = block - origin
    means = mixture.means - origin
    precisions = mixture.precisions
    squares = frames * frames
    linear = precisions * means
    with np.errstate(over="ignore", invalid="ignore"):
        size = squares.max(axis=0, initial=0.0) + (means * means).max(axis=0)
        lost = np.finfo(np.float64).eps * (precisions @ size).max(initial=0.0)
    if lost < _EXPANSION_TOLERANCE:
        np.matmul(squares, precisions.T, out=out)
        out -= 2.0 * (frames @ linear.T)
        out += (linear * means).sum(axis=1)
        return
    for component in range(mixture.components):
        difference = block - mixture.means[component]
        difference *= difference
        out[:, component] = difference @ precisions[component]


def _quadratic_full(mixture: GaussianMixture, block: Array, out: Array) -> None:
    for component in range(mixture.components):
        # x' U' U x with the mean taken away first: no cancellation whatever the condition.
        rotated = (block - mixture.means[component]) @ mixture.precision_factors[component].T
        out[:, component] = np.einsum("ij,ij->i", rotated, rotated)
