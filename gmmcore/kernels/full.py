"""The kernel of full covariances."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gmmcore.density import constants
from gmmcore.kernels.base import AnyArray, Array, Entries, Kernel, rounded
from gmmcore.model import GaussianMixture

__all__ = ["FULL_PACKING", "FullKernel"]

FULL_PACKING = "lower triangle by rows"


class FullKernel(Kernel):
    """Products are [lower triangle of y y' by rows, y, 1], y whitened by the overall covariance.

    Whitening takes away the correlation that all components share, so that the expanded
    quadratic keeps its digits in single precision too.
    """

    def __init__(self, mixture: GaussianMixture, dtype: npt.DTypeLike, pruning: float) -> None:
        dimension = mixture.dimension
        packed = dimension * (dimension + 1) // 2
        super().__init__(mixture, dtype, pruning, packed + dimension + 1)
        self.packed = packed
        weights = mixture.weights / mixture.weights.sum()
        centred = mixture.means - self.origin
        overall = np.tensordot(weights, mixture.covariances, 1)
        overall += (centred * weights[:, np.newaxis]).T @ centred
        self.factor = np.linalg.cholesky(overall)
        self.whitening = np.linalg.inv(self.factor)
        means = centred @ self.whitening.T
        precisions = self.factor.T @ mixture.precisions @ self.factor
        linear = np.einsum("cij,cj->ci", precisions, means)
        offset = constants(mixture) - 0.5 * (linear * means).sum(axis=1)
        rows, columns = np.tril_indices(dimension)
        # An off-diagonal product stands for both halves of the matrix.
        double = np.where(rows == columns, 0.5, 1.0)
        self.coefficients = rounded(
            [-(precisions[:, rows, columns] * double), linear, offset[:, np.newaxis]],
            self.rows,
            dtype,
        )

    def log_likelihoods(self, frames: npt.NDArray[np.floating], out: AnyArray) -> AnyArray:
        """Expand to the packed products, y and 1, shape (width, frames), and multiply."""
        products = self.buffer("products", (self.width, len(frames)))
        y = products[self.packed : -1]
        centred = self.buffer("centred", frames.shape)
        self.centred(frames, centred)
        np.matmul(self.whitening.astype(self.dtype), centred.T, out=y)
        position = 0
        for row in range(self.mixture.dimension):
            target = products[position : position + row + 1]
            np.multiply(y[row], y[: row + 1], out=target)
            position += row + 1
        products[-1] = 1.0
        np.matmul(self.coefficients, products, out=out)
        return products

    def add_dense(
        self, posteriors: AnyArray, scale: AnyArray, products: AnyArray, total: Array
    ) -> None:
        """One matrix product."""
        posteriors *= scale
        total += np.matmul(posteriors, products.T, out=self.buffer("part", total.shape))

    def add_sparse(self, entries: Entries, products: AnyArray, total: Array) -> None:
        """A sparse matrix of posteriors times the products."""
        from scipy.sparse import csr_array

        shape = (self.rows, products.shape[1])
        total += csr_array((entries.values, entries.frames, entries.starts), shape) @ products.T

    def finish(self, total: Array) -> tuple[Array, Array, Array]:
        """Undo the whitening."""
        rows, columns = np.tril_indices(self.mixture.dimension)
        total = total[: self.mixture.components]
        count = total[:, -1].copy()
        first = total[:, self.packed : -1] @ self.factor.T
        square = np.empty((len(count), self.mixture.dimension, self.mixture.dimension))
        square[:, rows, columns] = total[:, : self.packed]
        square[:, columns, rows] = total[:, : self.packed]
        second = self.factor @ square @ self.factor.T
        return count, first, np.ascontiguousarray(second[:, rows, columns])
