"""The inner loops of the E-step: blocks of frames that stay in the cache.

Both kernels write a frame's log-likelihoods as one matrix product. With y the frame about an
origin, ``log w N(x) = a + b'y + sum_ij C_ij y_i y_j``; a block of frames becomes a matrix of
products of its coordinates (only squares for diagonal covariances), which is multiplied with the
coefficients of all components, and again with the posteriors to sum the statistics.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gmmcore.density import constants
from gmmcore.model import GaussianMixture

__all__ = ["FULL_PACKING", "Kernel", "make_kernel"]

Array = npt.NDArray[np.float64]
AnyArray = npt.NDArray[Any]
# Bytes of the (frames, components) block: a part of a core's second-level cache.
_BLOCK_BYTES = 1 << 20
FULL_PACKING = "lower triangle by rows"
# Below this, exp() gives denormal numbers, which slow every later product a hundredfold.
_SMALLEST_EXPONENT = {"f": -80.0, "d": -700.0}
_NO_WEIGHT = -1e30
# Rounding error, in a frame's log-likelihood, above which single precision is not used.
_SINGLE_TOLERANCE = 0.05


class _Source(Protocol):
    def read(self, start: int, stop: int) -> npt.NDArray[np.floating]: ...


class Kernel:
    """What the two kernels share: blocks, log-sum-exp, posteriors, sums in float64."""

    origin: Array
    width: int

    def __init__(
        self, mixture: GaussianMixture, dtype: npt.DTypeLike, pruning: float, width: int
    ) -> None:
        self.mixture = mixture
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.pruning = pruning
        self.width = width
        # Rounded to single precision, so that subtracting it is exact in either precision.
        self.origin = mixture.overall_mean.astype(np.float32).astype(np.float64)
        row = max(mixture.components, width) * self.dtype.itemsize
        self.block = int(min(2048, max(64, (_BLOCK_BYTES // row) // 64 * 64)))

    def zeros(self) -> Array:
        """Empty sums, shape (C, width)."""
        return np.zeros((self.mixture.components, self.width))

    def sums(self, source: _Source, start: int, stop: int) -> tuple[Array, float]:
        """Sums over frames `start` to `stop`: statistics (C, width) and log-likelihood."""
        components = self.mixture.components
        total = self.zeros()
        log_likelihood = 0.0
        size = min(self.block, stop - start)
        products = np.empty((size, self.width), self.dtype)
        logs = np.empty((size, components), self.dtype)
        part = np.empty((components, self.width), self.dtype)
        # A frame that is not finite makes its log-likelihood so; `accumulate` looks at that.
        with np.errstate(invalid="ignore", over="ignore"):
            for first in range(start, stop, size):
                last = min(first + size, stop)
                block = products[: last - first]
                self.expand(source.read(first, last), block)
                out = logs[: last - first]
                np.matmul(block, self.coefficients, out=out)
                log_likelihood += self.to_posteriors(out, block)
                np.matmul(out.T, block, out=part)
                total += part
        return total, log_likelihood

    def to_posteriors(self, logs: AnyArray, products: AnyArray) -> float:
        """Exponentials in place of `logs`; `products` take the normalisation. Sum of logs."""
        top = logs.max(axis=1)
        logs -= top[:, np.newaxis]
        np.maximum(logs, _SMALLEST_EXPONENT[self.dtype.char], out=logs)
        np.exp(logs, out=logs)
        total = logs.sum(axis=1)
        # One division a coordinate of the frame is cheaper than one a component.
        products /= total[:, np.newaxis]
        return float(top.sum(dtype=np.float64) + np.log(total).sum(dtype=np.float64))

    def precise(self, frames: npt.NDArray[np.floating]) -> tuple[AnyArray, AnyArray]:
        """Frames and origin in the better of both precisions, for their difference."""
        work = np.result_type(frames.dtype, self.dtype)
        return frames.astype(work, copy=False), self.origin.astype(work)

    coefficients: AnyArray

    def keeps_digits(self) -> bool:
        """Whether rounding leaves a frame near the mixture a sensible log-likelihood.

        Where variances are tiny beside the overall one, the expanded quadratic is a small
        difference of large terms; such a mixture needs double precision.
        """
        size = np.abs(self.coefficients[:-1], dtype=np.float64).sum(axis=0).max()
        return bool(np.finfo(self.dtype).eps * size < _SINGLE_TOLERANCE)

    def expand(self, frames: npt.NDArray[np.floating], out: AnyArray) -> None:
        """Write the products of the frames' coordinates."""
        raise NotImplementedError

    def finish(self, total: Array) -> tuple[Array, Array, Array]:
        """Count, first and second order statistics about the origin, in the frames' units."""
        raise NotImplementedError


class DiagonalKernel(Kernel):
    """Products are [y^2, y, 1] with y scaled by a power of two near the overall deviation."""

    def __init__(self, mixture: GaussianMixture, dtype: npt.DTypeLike, pruning: float) -> None:
        dimension = mixture.dimension
        super().__init__(mixture, dtype, pruning, 2 * dimension + 1)
        # A power of two: scaling rounds nothing.
        self.scale = 2.0 ** np.round(0.5 * np.log2(mixture.overall_variance))
        means = (mixture.means - self.origin) / self.scale
        precisions = mixture.precisions * self.scale**2
        linear = precisions * means
        offset = constants(mixture) - 0.5 * (linear * means).sum(axis=1)
        self.coefficients = _rounded(
            [-0.5 * precisions.T, linear.T, np.maximum(offset, _NO_WEIGHT)[np.newaxis]], dtype
        )

    def expand(self, frames: npt.NDArray[np.floating], out: AnyArray) -> None:
        """Write [y^2, y, 1]."""
        dimension = self.mixture.dimension
        y = out[:, dimension : 2 * dimension]
        np.subtract(*self.precise(frames), out=y, casting="same_kind")
        y *= (1.0 / self.scale).astype(self.dtype)
        np.multiply(y, y, out=out[:, :dimension])
        out[:, -1] = 1.0

    def finish(self, total: Array) -> tuple[Array, Array, Array]:
        """Undo the scaling."""
        dimension = self.mixture.dimension
        count = total[:, -1].copy()
        first = total[:, dimension : 2 * dimension] * self.scale
        second = total[:, :dimension] * self.scale**2
        return count, first, second


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
        self.coefficients = _rounded(
            [
                -(precisions[:, rows, columns] * double).T,
                linear.T,
                np.maximum(offset, _NO_WEIGHT)[np.newaxis],
            ],
            dtype,
        )

    def expand(self, frames: npt.NDArray[np.floating], out: AnyArray) -> None:
        """Write the packed products, y and 1."""
        y = out[:, self.packed : -1]
        centred = np.subtract(*self.precise(frames)).astype(self.dtype, copy=False)
        np.matmul(centred, self.whitening.T.astype(self.dtype), out=y)
        position = 0
        for row in range(self.mixture.dimension):
            target = out[:, position : position + row + 1]
            np.multiply(y[:, row : row + 1], y[:, : row + 1], out=target)
            position += row + 1
        out[:, -1] = 1.0

    def finish(self, total: Array) -> tuple[Array, Array, Array]:
        """Undo the whitening."""
        rows, columns = np.tril_indices(self.mixture.dimension)
        count = total[:, -1].copy()
        first = total[:, self.packed : -1] @ self.factor.T
        square = np.empty((len(count), self.mixture.dimension, self.mixture.dimension))
        square[:, rows, columns] = total[:, : self.packed]
        square[:, columns, rows] = total[:, : self.packed]
        second = self.factor @ square @ self.factor.T
        return count, first, np.ascontiguousarray(second[:, rows, columns])


def _rounded(rows: list[Array], dtype: npt.DTypeLike) -> AnyArray:
    with np.errstate(over="ignore"):  # `keeps_digits` refuses what overflowed
        return np.concatenate(rows).astype(dtype)


def make_kernel(mixture: GaussianMixture, precision: str, pruning: float) -> Kernel:
    """The kernel for a mixture.

    Raises
    ------
    ValueError
        If `precision` is neither ``single`` nor ``double``, or `pruning` is not in [0, 1).
    """
    if precision not in ("single", "double"):
        raise ValueError(f"precision is {precision!r}, 'single' or 'double' was expected")
    if not 0.0 <= pruning < 1.0:
        raise ValueError(f"pruning is {pruning!r}, a number from 0 to below 1 was expected")
    kind = FullKernel if mixture.is_full else DiagonalKernel
    if precision == "single":
        kernel = kind(mixture, np.float32, pruning)
        if kernel.keeps_digits():
            return kernel
    return kind(mixture, np.float64, pruning)
