"""The kernel of diagonal covariances."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gmmcore.density import constants
from gmmcore.kernels.base import AnyArray, Array, Entries, Kernel, rounded
from gmmcore.model import GaussianMixture

__all__ = ["DiagonalKernel"]

_FEW_COMPONENTS = 128


class DiagonalKernel(Kernel):
    """Products are [y^2, y, 1], y scaled by a power of two where squares could leave the range."""

    block = 2048
    least_frames = 4096
    largest_share = 0.16

    def __init__(self, mixture: GaussianMixture, dtype: npt.DTypeLike, pruning: float) -> None:
        dimension = mixture.dimension
        super().__init__(mixture, dtype, pruning, 2 * dimension + 1)
        # With few components, a frame's products in a column make the faster matrix products.
        self.columns = self.rows < _FEW_COMPONENTS
        if self.columns:
            # Threads meet at the interpreter between blocks: few, long ones.
            self.block = self.fitting(4096)
        # A power of two: scaling rounds nothing, and so ordinary features need none.
        exponent = np.round(0.5 * np.log2(mixture.overall_variance))
        self.scale = 2.0 ** np.where(np.abs(exponent) > 10, exponent, 0.0)
        deviations = np.sqrt(mixture.overall_variance) / self.scale
        self.typical = np.concatenate([deviations**2, deviations])
        self.is_scaled = bool((self.scale != 1.0).any())
        means = (mixture.means - self.origin) / self.scale
        precisions = mixture.precisions * self.scale**2
        linear = precisions * means
        offset = constants(mixture) - 0.5 * (linear * means).sum(axis=1)
        self.coefficients = rounded(
            [-0.5 * precisions, linear, offset[:, np.newaxis]], self.rows, dtype
        )

    def zeros(self) -> Array:
        """Empty sums, in the order of memory that the products leave them in."""
        return super().zeros().T.copy().T if self.columns else super().zeros()

    def log_likelihoods(self, frames: npt.NDArray[np.floating], out: AnyArray) -> AnyArray:
        """Expand to [y^2, y, 1], shape (frames, width), and multiply."""
        dimension = self.mixture.dimension
        if self.columns:
            products = self.buffer("products", (self.width, len(frames))).T
            y = products[:, dimension : 2 * dimension]
            y[...] = self.about_origin(frames)
        else:
            products = self.buffer("products", (len(frames), self.width))
            y = products[:, dimension : 2 * dimension]
            self.centred(frames, y)
        if self.is_scaled:
            y *= (1.0 / self.scale).astype(self.dtype)
        np.square(y, out=products[:, :dimension])
        products[:, -1] = 1.0
        np.matmul(self.coefficients, products.T, out=out)
        return products

    def add_dense(
        self, posteriors: AnyArray, scale: AnyArray, products: AnyArray, total: Array
    ) -> None:
        """One matrix product, the smaller factor scaled before."""
        if self.rows < self.width:
            posteriors *= scale
        else:
            products *= scale[:, np.newaxis]
        if self.columns:
            part = self.buffer("part", (self.width, self.rows))
            total.T[...] += np.matmul(products.T, posteriors.T, out=part)
        else:
            total += np.matmul(posteriors, products, out=self.buffer("part", total.shape))

    def add_sparse(self, entries: Entries, products: AnyArray, total: Array) -> None:
        """A sparse matrix of posteriors times the products."""
        from scipy.sparse import csr_array

        shape = (self.rows, len(products))
        total += csr_array((entries.values, entries.frames, entries.starts), shape) @ products

    def finish(self, total: Array) -> tuple[Array, Array, Array]:
        """Undo the scaling."""
        dimension = self.mixture.dimension
        total = total[: self.mixture.components]
        count = total[:, -1].copy()
        first = total[:, dimension : 2 * dimension] * self.scale
        second = total[:, :dimension] * self.scale**2
        return count, first, second
