"""Merging of components that one component can stand for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gmmcore.core.mixture import GaussianMixture

Array = npt.NDArray[np.float64]


def merge(mixture: GaussianMixture, components: int) -> GaussianMixture:
    """Merge pairs of diagonal components, always the pair that loses least, down to `components`.

    A merged component has the weight, the mean and the variances of both together.

    Notes
    -----
    The loss of a pair with weights w_1 and w_2 and covariances S_1 and S_2, which together have the
    covariance S, is ((w_1 + w_2) log|S| - w_1 log|S_1| - w_2 log|S_2|) / 2. It bounds the
    Kullback-Leibler divergence between the mixtures before and after (Runnalls, IEEE Transactions
    on Aerospace and Electronic Systems 43, 2007).

    Examples
    --------
    >>> from gmmcore import GaussianMixture
    >>> from gmmcore.core.merge import merge
    >>> mixture = GaussianMixture([0.2, 0.4, 0.4], [[0.0], [9.0], [1.0]], [[1.0], [1.0], [1.0]])
    >>> merge(mixture, 2).means.round(3)
    array([[0.667],
           [9.   ]])
    """
    weights, means = mixture.weights.copy(), mixture.means.copy()
    variances = mixture.covariances.copy()
    logs = weights * np.log(variances).sum(axis=1)

    def together(one: int, others: int | slice) -> tuple[Array, Array, Array]:
        """Return weight, mean and variances of a component together with each of others."""
        weight = weights[one] + weights[others]
        share = np.asarray(weights[one] / weight)[..., np.newaxis]
        step = means[one] - means[others]
        spread = share * variances[one] + (1.0 - share) * (variances[others] + share * step**2)
        return weight, means[others] + share * step, spread

    def losses(one: int, others: slice) -> Array:
        """Return twice the loss of a component together with each of others."""
        weight, _, spread = together(one, others)
        return np.asarray(weight * np.log(spread).sum(axis=1) - logs[one] - logs[others])

    table = np.full((len(weights), len(weights)), np.inf)
    for one in range(len(weights)):
        table[one, :one] = table[:one, one] = losses(one, slice(one))
    # Of each component, the one with which it loses least, and that loss.
    nearest, least = table.argmin(axis=1), table.min(axis=1)
    kept = np.ones(len(weights), bool)
    for _ in range(len(weights) - components):
        one = int(least.argmin())
        into, gone = sorted((one, int(nearest[one])))
        weights[into], means[into], variances[into] = together(gone, into)
        logs[into] = weights[into] * np.log(variances[into]).sum()
        kept[gone], least[gone], nearest[gone] = False, np.inf, gone
        table[gone] = table[:, gone] = np.inf
        found = np.where(kept, losses(into, slice(None)), np.inf)
        found[into] = np.inf
        table[into] = table[:, into] = found
        stale = (nearest == gone) | (nearest == into)
        stale[into] = True
        stale &= kept
        nearest[stale] = table[stale].argmin(axis=1)
        least[stale] = table[stale, nearest[stale]]
        nearer = found < least
        nearest[nearer], least[nearer] = into, found[nearer]
    control = mixture.variance_control
    return GaussianMixture.from_covariances(
        weights[kept] / weights[kept].sum(),
        means[kept],
        variances[kept],
        None if control is None else control[kept],
    )
