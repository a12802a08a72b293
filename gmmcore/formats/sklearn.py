"""Conversion from and to scikit-learn's ``GaussianMixture``; needs ``pip install scikit-learn``."""

from __future__ import annotations

from typing import Any

import numpy as np

from gmmcore.core.mixture import GaussianMixture, InvalidMixtureError
from gmmcore.errors import GmmcoreError
from gmmcore.formats.base import Array

_MATRICES = ("tied", "full")


def to_sklearn(mixture: GaussianMixture) -> Any:
    """Make a fitted ``sklearn.mixture.GaussianMixture`` with the same parameters and kind.

    Raises
    ------
    GmmcoreError
        If scikit-learn is not installed.

    Examples
    --------
    >>> from gmmcore import GaussianMixture
    >>> from gmmcore.formats.sklearn import to_sklearn
    >>> mixture = GaussianMixture([1.0], [[0.0, 0.0]], [[0.25, 0.25]], kind="spherical")
    >>> to_sklearn(mixture).covariances_
    array([4.])
    """
    try:
        from sklearn.mixture import GaussianMixture as Estimator
    except ImportError as error:
        raise GmmcoreError(
            "scikit-learn: it cannot be imported; install it with: pip install scikit-learn"
        ) from error
    result = Estimator(mixture.components, covariance_type=mixture.kind, warm_start=True)
    for name, values in parameters(mixture).items():
        setattr(result, name, values)
    result.n_features_in_ = mixture.dimension
    result.converged_ = True
    result.n_iter_ = 0
    result.lower_bound_ = float("-inf")
    return result


def parameters(mixture: GaussianMixture) -> dict[str, Array]:
    """Return the fitted attributes of scikit-learn's estimator, with its shapes for each kind.

    >>> sorted(parameters(GaussianMixture([1.0], [[0.0]], [[4.0]])))
    ['covariances_', 'means_', 'precisions_', 'precisions_cholesky_', 'weights_']
    """
    covariances, precisions = mixture.covariances, mixture.precisions
    if mixture.is_full:
        # scikit-learn's factors U are upper ones with U U' = P; those of gmmcore have U' U = P.
        factors = np.linalg.cholesky(precisions[:, ::-1, ::-1])[:, ::-1, ::-1]
    else:
        factors = np.sqrt(precisions)
    chosen: Any = {"spherical": np.s_[:, 0], "tied": 0}.get(mixture.kind, np.s_[:])
    return {
        # The sampler of scikit-learn expects weights whose sum is 1 to the last digit.
        "weights_": mixture.weights / mixture.weights.sum(),
        "means_": mixture.means.copy(),
        "covariances_": covariances[chosen].copy(),
        "precisions_": precisions[chosen].copy(),
        "precisions_cholesky_": factors[chosen].copy(),
    }


def from_sklearn(estimator: Any) -> GaussianMixture:
    """Make a mixture of a fitted ``sklearn.mixture.GaussianMixture`` of any covariance type.

    Raises
    ------
    GmmcoreError
        If the estimator is not fitted, or its parameters are not those of a mixture.
    """
    try:
        weights, means = np.asarray(estimator.weights_), np.asarray(estimator.means_)
        kind = estimator.covariance_type
        if hasattr(estimator, "precisions_"):
            precisions = np.asarray(estimator.precisions_)
        else:  # Parameters may be set by hand, and scores need the factors alone.
            factors = np.asarray(estimator.precisions_cholesky_)
            is_matrix = kind in _MATRICES
            precisions = factors @ np.swapaxes(factors, -1, -2) if is_matrix else factors**2
    except AttributeError as error:
        raise GmmcoreError(f"scikit-learn mixture: not fitted, or no mixture: {error}") from error
    count, dimension = means.shape
    if kind == "spherical":
        precisions = np.repeat(precisions[:, np.newaxis], dimension, axis=1)
    elif kind in _MATRICES:
        # scikit-learn's products of factors are symmetric only to rounding.
        precisions = 0.5 * (precisions + np.swapaxes(precisions, -1, -2))
        precisions = np.broadcast_to(precisions, (count, dimension, dimension))
    try:
        return GaussianMixture(weights, means, precisions, kind=kind)
    except InvalidMixtureError as error:
        raise GmmcoreError(f"scikit-learn mixture: {error}") from error
