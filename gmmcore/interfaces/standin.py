"""Stand-ins for the parts of scikit-learn that `GaussianMixtureModel` uses, without scikit-learn.

Names and behaviour are those of ``sklearn.base``, ``sklearn.exceptions`` and
``sklearn.utils.validation``.
"""

from __future__ import annotations

import inspect
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from gmmcore.core.density import InvalidFramesError
from gmmcore.errors import GmmcoreError
from gmmcore.interfaces.frames import opened

__all__ = ["BaseEstimator", "DensityMixin", "NotFittedError", "check_is_fitted", "validate_data"]


class NotFittedError(GmmcoreError, ValueError, AttributeError):
    """Error raised for an estimator that is used before it is fitted."""


class DensityMixin:
    """Mixin of density estimators."""


class BaseEstimator:
    """Estimator whose parameters are the arguments of its constructor."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by their names."""
        names = list(inspect.signature(type(self)).parameters)
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: Any) -> Self:
        """Set parameters, and return the estimator.

        Raises
        ------
        ValueError
            If there is no parameter of a name.
        """
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(
                    f"Invalid parameter {name!r} for estimator {self!r}. "
                    f"Valid parameters are: {list(known)}."
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        changed = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if value is not (default := defaults[name].default)
            and (isinstance(value, np.ndarray) or value != default)
        ]
        return f"{type(self).__name__}({', '.join(changed)})"


def check_is_fitted(estimator: Any) -> None:
    """Raise `NotFittedError` if the estimator is not fitted."""
    if not hasattr(estimator, "mixture_"):
        raise NotFittedError(
            f"This {type(estimator).__name__} instance is not fitted yet. Call 'fit' with "
            "appropriate arguments before using this estimator."
        )


def validate_data(
    estimator: Any,
    X: Any,  # noqa: N803
    *,
    reset: bool,
    dtype: Any,
    ensure_min_samples: int = 1,
) -> npt.NDArray[Any]:
    """Return frames as an array, and set or compare ``n_features_in_``.

    Raises
    ------
    InvalidFramesError
        If they are too few, of another dimension than in `fit`, or not finite real numbers.
    """
    source = opened(X)
    if source.frames < ensure_min_samples:
        raise InvalidFramesError(
            f"frames: {source.frames}; expected {ensure_min_samples} or more; add some"
        )
    if not reset and source.dimension != estimator.n_features_in_:
        raise InvalidFramesError(
            f"X has {source.dimension} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input"
        )
    estimator.n_features_in_ = source.dimension
    return source.read(0, source.frames)
