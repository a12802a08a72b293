"""scikit-learn's ``GaussianMixture``, to and from; the extra ``sklearn`` brings it."""

from __future__ import annotations

from typing import Any

import numpy as np

from gmmcore.core.mixture import GaussianMixture, InvalidMixtureError
from gmmcore.errors import GmmcoreError


def to_sklearn(mixture: GaussianMixture) -> Any:
    """A fitted ``sklearn.mixture.GaussianMixture`` with the same parameters.

    Raises
    ------
    GmmcoreError
        If scikit-learn is not installed.
    """
    try:
        from sklearn.mixture import GaussianMixture as Estimator
    except ImportError as error:
        raise GmmcoreError(
            "scikit-learn: it cannot be imported; install it with: pip install 'gmmcore[sklearn]'"
        ) from error
    kind = "full" if mixture.is_full else "diag"
    result = Estimator(n_components=mixture.components, covariance_type=kind, warm_start=True)
    # Its sampler wants a sum of one to the last digit.
    result.weights_ = mixture.weights / mixture.weights.sum()
    result.means_ = mixture.means.copy()
    result.covariances_ = mixture.covariances.copy()
    result.precisions_ = mixture.precisions.copy()
    if mixture.is_full:
        # Upper factors U with U U' = P, where ours are U' U = P.
        reverse = np.linalg.cholesky(mixture.precisions[:, ::-1, ::-1])
        result.precisions_cholesky_ = reverse[:, ::-1, ::-1].copy()
    else:
        result.precisions_cholesky_ = np.sqrt(mixture.precisions)
    result.n_features_in_ = mixture.dimension
    result.converged_ = True
    result.n_iter_ = 0
    result.lower_bound_ = float("-inf")
    return result


def from_sklearn(estimator: Any) -> GaussianMixture:
    """The mixture of a fitted ``sklearn.mixture.GaussianMixture`` of any covariance type.

    Raises
    ------
    GmmcoreError
        If it is not fitted, or its parameters are no mixture.
    """
    try:
        weights, means = np.asarray(estimator.weights_), np.asarray(estimator.means_)
        precisions = np.asarray(estimator.precisions_)
        kind = estimator.covariance_type
    except AttributeError as error:
        raise GmmcoreError(f"scikit-learn mixture: not fitted: {error}") from error
    count, dimension = means.shape
    if kind == "tied":
        precisions = np.broadcast_to(precisions, (count, dimension, dimension))
    elif kind == "spherical":
        precisions = np.repeat(precisions[:, np.newaxis], dimension, axis=1)
    elif kind == "full":
        # Its products of factors are symmetric only to rounding.
        precisions = 0.5 * (precisions + precisions.transpose(0, 2, 1))
    try:
        return GaussianMixture(weights, means, precisions)
    except InvalidMixtureError as error:
        raise GmmcoreError(f"scikit-learn mixture: {error}") from error
