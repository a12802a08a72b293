"""Log-likelihoods and posteriors of frames under a mixture, in float64 and in the log domain.

These functions choose the form of the quadratic that loses no digits. The E-step
(`gmmcore.core.estep`) uses faster kernels, which are tested against these functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.core.mixture import GaussianMixture
from gmmcore.errors import GmmcoreError

Array = npt.NDArray[np.float64]
LOG_TWO_PI = float(np.log(2.0 * np.pi))
_BLOCK = 4096
# The expanded quadratic has an error of eps * (sum of its terms); if that is larger than this, the
# means are subtracted first.
_EXPANSION_TOLERANCE = 1e-10


class InvalidFramesError(GmmcoreError, ValueError):
    """Error raised for an array that cannot be used as frames; the message says why."""


class FarFramesError(GmmcoreError, FloatingPointError):
    """Error raised for frames whose log-likelihood under a mixture is not finite."""


def checked_frames(
    values: npt.ArrayLike, what: str = "frames", *, finite: bool = False
) -> npt.NDArray[Any]:
    """Convert `values` to an array of real numbers, of any shape; finite ones where asked for."""
    # NumPy would drop a mask or imaginary parts.
    parts = values if isinstance(values, list | tuple) else [values]
    if any(isinstance(part, np.ma.MaskedArray) for part in parts):
        raise InvalidFramesError(
            f"{what}: a masked array, whose mask cannot be respected; expected a plain array; "
            "leave out the masked frames, and give the rest as x.data"
        )
    try:
        array = np.asarray(values)
    except ValueError:
        raise InvalidFramesError(
            f"{what}: rows of different lengths; expected an array (F, D); correct the shape"
        ) from None
    if array.dtype.kind not in "fiub":
        how = (
            "with x.toarray()" if hasattr(values, "toarray") else "for instance with astype(float)"
        )
        raise InvalidFramesError(
            f"{what}: values of type {array.dtype}; expected real numbers; convert them, {how}"
        )
    if finite and not np.isfinite(array).all():
        bad = int(np.argwhere(~np.isfinite(array))[0, 0]) if array.ndim > 1 else 0
        raise InvalidFramesError(
            f"{what}: frame {bad} (counted from 0) holds a value that is not finite; "
            "expected numbers only; fix or leave out the frame"
        )
    return array


def constants(mixture: GaussianMixture) -> Array:
    """Compute ``log w_c - (D log 2 pi + log det S_c) / 2`` of each component, shape (C,)."""
    return mixture.log_weights - 0.5 * (mixture.dimension * LOG_TWO_PI + mixture.log_determinants)


def component_log_likelihoods(mixture: GaussianMixture, frames: npt.ArrayLike) -> Array:
    """Compute ``log(w_c N(x; mean_c, S_c))`` of every frame and component.

    Parameters
    ----------
    mixture : GaussianMixture
    frames : array_like, shape (F, D)

    Returns
    -------
    ndarray, shape (F, C), float64
        Natural logarithms of the weighted densities, not normalised over the components.

    Raises
    ------
    InvalidFramesError
        If the frames have another dimension than the mixture, are masked, or are not real numbers.

    Examples
    --------
    >>> from gmmcore import GaussianMixture
    >>> from gmmcore.core.density import component_log_likelihoods
    >>> mixture = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[1.0], [1.0]])
    >>> component_log_likelihoods(mixture, [[0.0], [1.0]]).round(3)
    array([[-2.112, -2.112],
           [-3.612, -1.612]])
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
    """Compute the natural logarithm of the density at every frame, shape (F,), float64.

    Examples
    --------
    >>> from gmmcore import GaussianMixture
    >>> from gmmcore.core.density import log_likelihood
    >>> mixture = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[1.0], [1.0]])
    >>> log_likelihood(mixture, [[0.0], [1.0]]).round(3)
    array([-1.419, -1.485])
    """
    values = _checked(mixture, frames)
    result = np.empty(values.shape[0])
    for start in range(0, values.shape[0], _BLOCK):
        block = values[start : start + _BLOCK]
        result[start : start + _BLOCK] = log_sum_exp(component_log_likelihoods(mixture, block))
    return result


def posteriors(mixture: GaussianMixture, frames: npt.ArrayLike) -> Array:
    """Compute the probability of every component given every frame, shape (F, C), float64.

    Examples
    --------
    >>> from gmmcore import GaussianMixture
    >>> from gmmcore.core.density import posteriors
    >>> mixture = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[1.0], [1.0]])
    >>> posteriors(mixture, [[0.0], [1.0]]).round(3)
    array([[0.5  , 0.5  ],
           [0.119, 0.881]])
    """
    logs = component_log_likelihoods(mixture, frames)
    logs -= log_sum_exp(logs)[:, np.newaxis]
    return np.exp(logs, out=logs)


def log_sum_exp(logs: Array) -> Array:
    """Compute ``log(sum(exp(logs), axis=1))`` without overflow, shape (F,)."""
    top = logs.max(axis=1)
    return np.log(np.exp(logs - top[:, np.newaxis]).sum(axis=1)) + top


def _checked(mixture: GaussianMixture, frames: npt.ArrayLike) -> Array:
    values = checked_frames(frames)
    if values.ndim != 2 or values.shape[1] != mixture.dimension:
        raise InvalidFramesError(
            f"frames have shape {values.shape}, (F, {mixture.dimension}) was expected"
        )
    return np.asarray(values, dtype=np.float64)


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
        # The mean is subtracted from x first: nothing cancels in x' U' U x, whatever the condition.
        rotated = (block - mixture.means[component]) @ mixture.precision_factors[component].T
        out[:, component] = np.einsum("ij,ij->i", rotated, rotated)
