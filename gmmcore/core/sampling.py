"""Random frames of a Gaussian mixture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gmmcore.core.parallel import single_blas

__all__ = ["draw"]

Array = npt.NDArray[np.float64]


def draw(
    weights: Array, means: Array, factors: Array, frames: int, seed: int | None
) -> tuple[Array, npt.NDArray[np.intp]]:
    """Draw frames; arguments and result are those of `gmmcore.GaussianMixture.sample`.

    Parameters
    ----------
    weights : ndarray, shape (C,)
    means : ndarray, shape (C, D)
    factors : ndarray, shape (C, D) or (C, D, D)
        Precisions of diagonal components, or upper Cholesky factors U of full precisions U' U.
    frames : int
    seed : int or None
    """
    rng = np.random.default_rng(seed)
    components = rng.choice(len(weights), frames, p=weights / weights.sum())
    values = rng.standard_normal((frames, means.shape[1]))
    if factors.ndim == 2:
        values /= np.sqrt(factors)[components]
    else:
        with single_blas():
            for component in np.unique(components):
                chosen = components == component
                # If z has the covariance I, then U^-1 z has (U' U)^-1.
                values[chosen] = np.linalg.solve(factors[component], values[chosen].T).T
    values += means[components]
    return values, components
