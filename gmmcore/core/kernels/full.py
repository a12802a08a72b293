"""The kernel of full covariances."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gmmcore.core.density import constants
from gmmcore.core.kernels.base import AnyArray, Array, Kernel
from gmmcore.core.kernels.grouped import Entries
from gmmcore.core.mixture import GaussianMixture

__all__ = ["FULL_PACKING", "FullKernel"]

FULL_PACKING = "lower triangle by rows"


class FullKernel(Kernel):
    """Kernel with products [lower triangle of y y' by rows, y, 1].

    The frame y is whitened by the overall covariance. This removes the correlation that all
    components share, so that the expanded quadratic loses few digits in single precision.
    """

    def __init__(self, mixture: GaussianMixture, dtype: npt.DTypeLike, pruning: float) -> None:
        dimension = mixture.dimension
        packed = dimension * (dimension + 1) // 2
        super().__init__(mixture, dtype, pruning, packed + dimension + 1)
        self.packed = packed
        self.typical = np.ones(self.width - 1)  # y is whitened
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
        self.set_coefficients(
            [-(precisions[:, rows, columns] * double), linear, offset[:, np.newaxis]]
        )

    def keeps_digits(self) -> bool:
        """Check in addition that the whitening does not overflow."""
        return bool(np.abs(self.whitening).max() < np.finfo(self.dtype).max) and (
            super().keeps_digits()
        )

    def expand(self, frames: npt.NDArray[np.floating], by_frame: bool = False) -> AnyArray:
        """Compute the packed products, y and 1."""
        products = self.buffer("products", (self.width, len(frames)))
        y = products[self.packed : -1]
        np.matmul(self.whitening.astype(self.dtype), self.about_origin(frames).T, out=y)
        position = 0
        for row in range(self.dimension):
            target = products[position : position + row + 1]
            np.multiply(y[row], y[: row + 1], out=target)
            position += row + 1
        products[-1] = 1.0
        return products

    def add_sparse(self, entries: Entries, products: AnyArray, total: Array) -> None:
        """Keep the posteriors, and [y, 1] of the block, for `flush`."""
        kept = self._kept()
        offset = sum(len(y) for y, _ in kept)
        frames = entries.frames + np.int32(offset)
        kept.append((products[self.packed :].T.copy(), entries._replace(frames=frames)))

    def flush(self, total: Array) -> None:
        """Add the sums of posterior x [y, 1] [y, 1]', one component at a time.

        A component has few frames in one block, but enough in many blocks for a matrix product,
        which is faster than adding rows of packed products.
        """
        kept = self._kept()
        if not kept:
            return
        y = np.concatenate([block for block, _ in kept])
        values = np.concatenate([entries.values for _, entries in kept])
        frames = np.concatenate([entries.frames for _, entries in kept])
        names = np.arange(
            self.padded_components,
            dtype=np.uint16 if self.padded_components < 1 << 16 else np.int64,
        )
        component = np.concatenate([np.repeat(names, np.diff(e.starts)) for _, e in kept])
        kept.clear()
        order = np.argsort(component, kind="stable")
        starts = np.searchsorted(component[order], np.arange(self.padded_components + 1))
        values, frames = values[order], frames[order]
        dimension = self.dimension
        moments = np.zeros((self.padded_components, dimension + 1, dimension + 1), self.dtype)
        for index in np.flatnonzero(np.diff(starts)):
            chosen = slice(starts[index], starts[index + 1])
            near = y[frames[chosen]]
            np.matmul((near * values[chosen, np.newaxis]).T, near, out=moments[index])
        rows, columns = np.tril_indices(dimension)
        total[:, : self.packed] += moments[:, rows, columns]
        total[:, self.packed :] += moments[:, dimension]

    def _kept(self) -> list[tuple[AnyArray, Entries]]:
        if not hasattr(self._own, "kept"):
            self._own.kept = []
        kept: list[tuple[AnyArray, Entries]] = self._own.kept
        return kept

    def finish(self, total: Array) -> tuple[Array, Array, Array]:
        """Return the statistics without the whitening."""
        rows, columns = np.tril_indices(self.dimension)
        total = total[: self.components]
        count = total[:, -1].copy()
        first = total[:, self.packed : -1] @ self.factor.T
        square = np.empty((len(count), self.dimension, self.dimension))
        square[:, rows, columns] = total[:, : self.packed]
        square[:, columns, rows] = total[:, : self.packed]
        second = self.factor @ square @ self.factor.T
        return count, first, np.ascontiguousarray(second[:, rows, columns])
