"""The kernel of diagonal covariances."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gmmcore.core.density import constants
from gmmcore.core.kernels.base import AnyArray, Array, Kernel
from gmmcore.core.kernels.grouped import Entries
from gmmcore.core.mixture import GaussianMixture

__all__ = ["DiagonalKernel"]

# Largest rounding error of a frame's log-likelihood with which sums of any length are good enough,
# and the largest number of products that are added one by one where it is larger.
_NARROW = 1e-3
_LONGEST_RUN = 64


class DiagonalKernel(Kernel):
    """Kernel with products [y^2, y, 1], where powers of two scale y if squares may overflow."""

    block = 2048
    largest_share = 0.15

    def __init__(self, mixture: GaussianMixture, dtype: npt.DTypeLike, pruning: float) -> None:
        dimension = mixture.dimension
        super().__init__(mixture, dtype, pruning, 2 * dimension + 1)
        # Scaling by a power of two is exact; ordinary features are not scaled. The exponent is
        # limited, so that the reciprocal of the scale is finite in single precision.
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
        # The constant brings the overall Gaussian near the mixture's log-likelihood: the mean
        # of a frame's quadratic is D / 2 under its own component and under the overall Gaussian.
        weights = mixture.weights[mixture.weights > 0]
        mean = (mixture.overall_mean - self.origin) / self.scale
        precision = deviations**-2
        constant = weights @ own[mixture.weights > 0] / weights.sum()
        constant -= 0.5 * precision @ mean**2
        self.set_coefficients(
            [-0.5 * precisions, linear, offset[:, np.newaxis]],
            np.concatenate([-0.5 * precision, precision * mean, [constant]]),
        )
        # Some variances are tiny relative to the overall ones. In ordinary mixtures none is.
        self.is_narrow = bool(self.rounding().max() > _NARROW)

    def expand(self, frames: npt.NDArray[np.floating], by_frame: bool = False) -> AnyArray:
        """Compute [y^2, y, 1].

        With `by_frame`, the products of a frame are adjacent, which makes the sparse product
        faster; without, the dense one.
        """
        dimension = self.dimension
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
        """Add the product of a sparse matrix of posteriors with the products.

        It adds the products of a component one after the other. Where that would lose too many
        digits, a component with many frames gets several rows, whose sums are added in float64.
        """
        from scipy.sparse import csr_array

        starts, first = entries.starts, None
        if self.is_narrow:
            rows = np.maximum(-(-np.diff(starts) // _LONGEST_RUN), 1)
            first = np.cumsum(rows) - rows
            within = np.arange(rows.sum()) - np.repeat(first, rows)
            starts = np.append(np.repeat(starts[:-1], rows) + _LONGEST_RUN * within, starts[-1])
        shape = (len(starts) - 1, products.shape[1])
        sums = csr_array((entries.values, entries.frames, starts), shape) @ products.T
        total += sums if first is None else np.add.reduceat(sums, first, axis=0, dtype=np.float64)

    def finish(self, total: Array) -> tuple[Array, Array, Array]:
        """Return the statistics without the scaling."""
        dimension = self.dimension
        total = total[: self.components]
        count = total[:, -1].copy()
        first = total[:, dimension : 2 * dimension] * self.scale
        second = total[:, :dimension] * self.scale**2
        return count, first, second
