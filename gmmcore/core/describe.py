"""Descriptions of a mixture, and differences between two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.core.mixture import GaussianMixture

__all__ = ["Difference", "condition_numbers", "describe", "difference"]

Array = npt.NDArray[np.float64]


def describe(mixture: GaussianMixture) -> dict[str, Any]:
    """Compute sizes, weights, variances and condition numbers of a mixture.

    Returns
    -------
    dict
        ``components``, ``dimension``, ``covariances`` (``diagonal`` or ``full``), ``parameters``
        (number of free parameters), ``weight_smallest``, ``weight_largest``, ``weight_entropy``
        (natural logarithm), ``weights_effective`` (its exponential: the number of equal weights
        with the same entropy), ``variance_smallest`` and ``variance_largest`` (eigenvalues of
        full covariances), ``condition_median`` and ``condition_largest`` (ratio of a component's
        largest and smallest variance), and ``variance_control`` (whether there is one).
        ``variance_smallest_component``, ``variance_largest_component`` and
        ``condition_largest_component`` are the numbers of the components, from 0.
    """
    spread = _spread(mixture)
    condition = condition_numbers(mixture)
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


def condition_numbers(mixture: GaussianMixture) -> Array:
    """Return the ratio of each component's largest and smallest variance, or eigenvalue: (C,)."""
    spread = _spread(mixture)
    return np.asarray(spread.max(axis=1) / spread.min(axis=1))


@dataclass(frozen=True)
class Difference:
    """Largest differences between two mixtures of one shape, component by component.

    Attributes
    ----------
    weights : float
        Largest difference of two weights.
    means : float
        Largest difference of two means, in standard deviations of the first mixture.
    covariances : float
        Largest difference of two covariances, relative to the product of the two standard
        deviations of the first mixture.
    """

    weights: float
    means: float
    covariances: float

    @property
    def largest(self) -> float:
        """Largest of the three differences."""
        return max(self.weights, self.means, self.covariances)


def difference(first: GaussianMixture, second: GaussianMixture) -> Difference:
    """Compute the largest differences between two mixtures, each diagonal or full.

    Raises
    ------
    ValueError
        If the numbers of components or the dimensions differ.
    """
    if first.means.shape != second.means.shape:
        raise ValueError(
            f"{first.components} components of dimension {first.dimension} and "
            f"{second.components} of dimension {second.dimension} are not comparable one by one"
        )
    full = first.is_full or second.is_full
    one, other = (_covariances(mixture, full) for mixture in (first, second))
    variances = np.diagonal(one, axis1=1, axis2=2) if full else one
    deviations = np.sqrt(variances)
    unit = deviations[:, :, np.newaxis] * deviations[:, np.newaxis, :] if full else variances
    return Difference(
        float(np.abs(first.weights - second.weights).max()),
        float((np.abs(first.means - second.means) / deviations).max()),
        float((np.abs(one - other) / unit).max()),
    )


def _spread(mixture: GaussianMixture) -> Array:
    """Return the variances, or the eigenvalues of full covariances, shape (C, D)."""
    if not mixture.is_full:
        return mixture.covariances
    # The precisions are stored, so that no matrix has to be inverted.
    return np.asarray(1.0 / np.linalg.eigvalsh(mixture.precisions), dtype=np.float64)


def _covariances(mixture: GaussianMixture, full: bool) -> Array:
    if full and not mixture.is_full:
        return mixture.covariances[:, :, np.newaxis] * np.eye(mixture.dimension)
    return mixture.covariances
