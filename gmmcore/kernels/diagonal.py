"""The kernel of diagonal covariances."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gmmcore.density import constants
from gmmcore.kernels.base import AnyArray, Array, Kernel
from gmmcore.kernels.grouped import Entries
from gmmcore.model import GaussianMixture

__all__ = ["DiagonalKernel"]


class DiagonalKernel(Kernel):
    """Products are [y^2, y, 1], y scaled by a power of two where squares could leave the range."""

    block = 2048
    piece = 4096
    largest_share = 0.15

    def __init__(self, mixture: GaussianMixture, dtype: npt.DTypeLike, pruning: float) -> None:
        dimension = mixture.dimension
        super().__init__(mixture, dtype, pruning, 2 * dimension + 1)
        # A power of two: scaling rounds nothing, and so ordinary features need none.
        # The reciprocal of the scale has to be a number in single precision too.
        exponent = np.clip(np.round(0.5 * np.log2(mixture.overall_variance)), -120, 120)
        self.scale = 2.0 ** np.where(np.abs(exponent) > 10, exponent, 0.0)
        deviations = np.sqrt(mixture.overall_variance) / self.scale
        self.typical = np.concatenate([deviations**2, deviations])
        self.is_scaled = bool((self.scale != 1.0).any())
        means = (mixture.means - self.origin) / self.scale
        precisions = mixture.precisions * self.scale**2
        linear = precisions * means
        own = constants(mixture)
        offset = own - 0.5 * (linear * means).sum(axis=1)
        # The overall Gaussian, its constant such that it is near the mixture's log-likelihood: the
        # mean of a frame's quadratic is D / 2 in its own component and in the overall one.
        weights = mixture.weights[mixture.weights > 0]
        mean = (mixture.overall_mean - self.origin) / self.scale
        precision = deviations**-2
        constant = weights @ own[mixture.weights > 0] / weights.sum()
        constant -= 0.5 * precision @ mean**2
        self.set_coefficients(
            [-0.5 * precisions, linear, offset[:, np.newaxis]],
            np.concatenate([-0.5 * precision, precision * mean, [constant]]),
        )

    def expand(self, frames: npt.NDArray[np.floating], by_frame: bool = False) -> AnyArray:
        """[y^2, y, 1]; a frame's products together for the sparse product, else apart.

        Apart they make the faster dense ones.
        """
        dimension = self.mixture.dimension
        if by_frame:
            products = self.buffer("products", (len(frames), self.width)).T
            y = products[dimension : 2 * dimension]
            self.centred(frames, y.T)
        else:
            products = self.buffer("products", (self.width, len(frames)))
            y = products[dimension : 2 * dimension]
            y[...] = self.about_origin(frames).T
        if self.is_scaled:
            y *= (1.0 / self.scale).astype(self.dtype)[:, np.newaxis]
        np.square(y, out=products[:dimension])
        products[-1] = 1.0
        return products

    def add_sparse(self, entries: Entries, products: AnyArray, total: Array) -> None:
        """A sparse matrix of posteriors times the products."""
        from scipy.sparse import csr_array

        shape = (self.rows, products.shape[1])
        total += csr_array((entries.values, entries.frames, entries.starts), shape) @ products.T

    def finish(self, total: Array) -> tuple[Array, Array, Array]:
        """Undo the scaling."""
        dimension = self.mixture.dimension
        total = total[: self.mixture.components]
        count = total[:, -1].copy()
        first = total[:, dimension : 2 * dimension] * self.scale
        second = total[:, :dimension] * self.scale**2
        return count, first, second
