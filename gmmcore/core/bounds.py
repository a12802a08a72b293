"""Bounds of variances and covariances, relative to given variances."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gmmcore.core.mixture import (
    InvalidMixtureError,
    covariance_to_precision,
    first_indefinite,
    is_definite,
)

__all__ = ["bounded_precisions", "bounded_variances"]

Array = npt.NDArray[np.float64]


def bounded_variances(
    raw: Array, control: Array, bounds: tuple[float, float], counted: npt.NDArray[np.bool_]
) -> tuple[Array, int, int]:
    """Bring variances within bounds.

    Parameters
    ----------
    raw : ndarray, shape (C, D), float64
        Variances.
    control : ndarray, shape (C, D), float64
        Variances that the bounds are relative to.
    bounds : tuple of float
        Floor and ceiling.
    counted : ndarray, shape (C,), bool
        Components whose variances are counted and checked.

    Returns
    -------
    variances : ndarray, shape (C, D)
        The variances within their bounds.
    floored, ceiled : int
        Number of variances of these components that were raised and lowered.

    Raises
    ------
    InvalidMixtureError
        If a variance of these components is not positive, because the floor is zero.
    """
    low, high = bounds[0] * control, bounds[1] * control
    below = (raw < low) & counted[:, np.newaxis]
    above = (raw > high) & counted[:, np.newaxis]
    bounded = np.clip(raw, low, high)
    flat = (bounded <= 0) & counted[:, np.newaxis]
    if flat.any():
        component, dimension = np.argwhere(flat)[0]
        raise InvalidMixtureError(
            f"component {component} has no variance in dimension {dimension}; "
            "set a floor above zero, or train fewer components"
        )
    return bounded, int(below.sum()), int(above.sum())


def bounded_precisions(
    covariances: Array, control: Array, bounds: tuple[float, float], names: npt.NDArray[np.intp]
) -> tuple[Array, int, int]:
    """Bring the eigenvalues of covariances within bounds, and invert the covariances.

    Parameters
    ----------
    covariances : ndarray, shape (N, D, D), float64
        Covariances, which are bounded in place.
    control : ndarray, shape (N, D), float64
        Variances by which the covariances are scaled before their eigenvalues are bounded.
    bounds : tuple of float
        Floor and ceiling.
    names : ndarray, shape (N,), int
        Numbers of the components, for error messages.

    Returns
    -------
    precisions : ndarray, shape (N, D, D)
        Inverses of the bounded covariances.
    floored, ceiled : int
        Number of eigenvalues that were raised and lowered.

    Raises
    ------
    InvalidMixtureError
        If a covariance is not positive definite, because the floor is zero.
    """
    deviation = np.sqrt(control)
    unit = deviation[:, :, np.newaxis] * deviation[:, np.newaxis, :]
    floored = ceiled = 0
    for index in range(len(covariances)):
        scaled = covariances[index] / unit[index]
        if _within(scaled, *bounds):
            continue
        values, vectors = np.linalg.eigh(scaled)
        floored += int((values < bounds[0]).sum())
        ceiled += int((values > bounds[1]).sum())
        values = np.clip(values, *bounds)
        if values[0] <= 0:
            raise _indefinite(names[index])
        bounded = (vectors * values) @ vectors.T
        covariances[index] = 0.5 * (bounded + bounded.T) * unit[index]
    try:
        return covariance_to_precision(covariances), floored, ceiled
    except InvalidMixtureError:
        raise _indefinite(names[first_indefinite(covariances)]) from None


def _indefinite(component: int) -> InvalidMixtureError:
    return InvalidMixtureError(
        f"the covariance of component {component} is not positive definite; "
        "set a floor above zero, or train fewer components"
    )


def _within(scaled: Array, floor: float, ceiling: float) -> bool:
    """Whether all eigenvalues lie between the bounds; much faster than to compute them."""
    identity = np.eye(len(scaled))
    return is_definite(scaled - floor * identity) and (
        not np.isfinite(ceiling) or is_definite(ceiling * identity - scaled)
    )
