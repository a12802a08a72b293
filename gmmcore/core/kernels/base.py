"""The base class of the kernels: blocks, exponentials, posteriors, and sums in float64.

A block is processed in one of two ways:

* dense, with all components: the log-likelihoods have the shape (frames, components). If they are
  relative to a Gaussian with the mixture's overall moments, their exponentials are taken without
  subtracting the largest one first;
* sparse, with only the components that matter for a frame (`gmmcore.core.kernels.grouped`).
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.core.frames import FrameSource
from gmmcore.core.kernels.grouped import GROUP, Entries, exponentials, near, near_posteriors
from gmmcore.core.mixture import GaussianMixture

__all__ = ["AnyArray", "Array", "Kernel"]

Array = npt.NDArray[np.float64]
AnyArray = npt.NDArray[Any]
# Smallest exponent: lower ones are raised to it, because their exponentials, times coordinates,
# would be denormal numbers, which slow a matrix product down a hundred times.
_SMALLEST_EXPONENT = {"f": -45.0, "d": -600.0}
_NO_WEIGHT = -1e30
# Largest rounding error of a frame's log-likelihood in single precision.
_SINGLE_TOLERANCE = 0.05
# With fewer components, skipping some costs more than it saves.
_LEAST_COMPONENTS = 128
# Largest number of values in an array of a thread.
_LARGEST_BUFFER = 1 << 22
# Number of frames in each sample that `prepare` looks at, and number of samples.
_SAMPLE_FRAMES = 128
_SAMPLE_PLACES = 4
# Largest share of frames that are too far from the overall Gaussian and are processed twice.
_LARGEST_FAR_SHARE = 0.125


class Kernel:
    """Coefficients of a mixture, and sums over frames under it.

    Attributes
    ----------
    components, dimension : int
        Those of the mixture.
    is_full : bool
        Whether its covariances are full matrices.
    origin : ndarray, shape (D,), float64
        Origin of the statistics: the overall mean of the mixture, or zero if the mean is near zero.
    is_centred : bool
        Whether the origin is zero.
    width : int
        Number of products of a frame's coordinates, including the constant.
    block : int
        Number of frames that are processed together: a power of two, at most 4096, so that they
        lie in one block of a shard. It is part of the arithmetic, as it fixes the order of
        addition.
    piece : int
        Least number of frames whose sums are taken together, a multiple of `block`: with fewer, to
        add the sums would take more than a few hundredths of the time.
    largest_share : float
        Share of groups near the best one above which skipping the others costs more than it saves.
    is_sparse : bool
        Whether blocks are processed in the sparse way where possible.
    is_referenced : bool
        Whether exponentials are taken relative to `reference` instead of each frame's maximum.
    coefficients : ndarray, shape (width, padded_components)
        Coefficients of log w N(x), one column per component, and columns of weight zero that make
        `padded_components` a multiple of the group size.
    relative : ndarray, shape (width, padded_components)
        Coefficients minus `reference`.
    reference : ndarray, shape (width,)
        Coefficients of the overall Gaussian, scaled to about the mixture's log-likelihood. It is
        only set where a matrix product costs little, because far frames are processed twice.
    typical : ndarray, shape (width - 1,)
        Size of the products of a frame that is one overall standard deviation from the origin.
    """

    block = 1024
    piece = 4096
    largest_share = 0.35
    coefficients: AnyArray
    relative: AnyArray
    reference: AnyArray
    typical: Array

    def __init__(
        self, mixture: GaussianMixture, dtype: npt.DTypeLike, pruning: float, width: int
    ) -> None:
        self.components, self.dimension = mixture.components, mixture.dimension
        self.is_full = mixture.is_full
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.pruning = pruning
        self.width = width
        self.origin = _origin(mixture)
        self.is_centred = not self.origin.any()
        self.grouped = pruning > 0.0 and mixture.components >= _LEAST_COMPONENTS
        self.padded_components = mixture.components
        if self.grouped:
            self.padded_components += -self.padded_components % GROUP
            # The skipped posteriors of a frame sum to at most 50 times `pruning`.
            self.group_threshold = np.array(np.log(50.0 * pruning / self.padded_components), dtype)
        self.is_sparse = self.grouped
        self.is_referenced = False
        limits = np.finfo(self.dtype)
        self.lowest = np.array(_SMALLEST_EXPONENT[self.dtype.char], dtype)
        smallest = math.exp(self.lowest)
        # Between these sums of a frame's exponentials, no exponential that matters was raised, and
        # the products of posteriors with coordinates of 1e-3 are not denormal.
        self.least_sum = 16 * self.padded_components * smallest / float(limits.eps)
        self.largest_sum = 1e-3 * smallest / float(limits.tiny)
        self.block = self.fitting(self.block)
        self._own = threading.local()
        self._ones = np.ones(self.padded_components, self.dtype)
        self._origins: dict[str, AnyArray] = {}

    def __getstate__(self) -> dict[str, Any]:
        # What is only kept for later blocks is not a part of the kernel.
        return {**vars(self), "_own": None, "_origins": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._own = threading.local()

    def set_coefficients(self, columns: list[Array], reference: Array | None = None) -> None:
        """Set the coefficients of all components; their columns are joined, the constant last."""
        values = np.concatenate(columns, axis=1)
        self.coefficients = self._rounded(values)
        if reference is not None:
            self.is_referenced = True
            self.reference = reference.astype(self.dtype)
            # The rounded reference is subtracted, so that its rounding error cancels in the sum.
            self.relative = self._rounded(values - self.reference)

    def _rounded(self, values: Array) -> AnyArray:
        """Round coefficients to the precision of the products, and add columns of weight zero."""
        result = np.zeros((self.width, self.padded_components), self.dtype)
        result[-1] = _NO_WEIGHT
        with np.errstate(over="ignore"):  # `keeps_digits` rejects values that overflowed.
            result[:, : len(values)] = values.T
        np.maximum(result[-1], _NO_WEIGHT, out=result[-1])
        return result

    def fitting(self, block: int) -> int:
        """Return `block`, or less, so that the size of the buffers is limited."""
        most = _LARGEST_BUFFER // max(self.padded_components, self.width)
        return max(64, min(block, 1 << most.bit_length() - 1))

    def arranged(self, sums: Array) -> Array:
        """View sums as (padded_components, width), in the order in which they are added."""
        if self.is_sparse:
            return sums.reshape(self.padded_components, self.width)
        return sums.reshape(self.width, self.padded_components).T

    def buffer(self, name: str, shape: tuple[int, ...]) -> AnyArray:
        """Return an array of this thread, which each block uses again; its content is undefined."""
        size = math.prod(shape)
        kept: AnyArray | None = getattr(self._own, name, None)
        if kept is None or kept.size < size:
            kept = np.empty(size, self.dtype)
            setattr(self._own, name, kept)
        return kept[:size].reshape(shape)

    def prepare(self, source: FrameSource) -> None:
        """Look at some frames of `source`, and choose the faster way to process its blocks.

        Both ways are valid for all frames. The choice depends only on the frames.
        """
        few = min(_SAMPLE_FRAMES, self.block // _SAMPLE_PLACES, source.frames // 64)
        if not few or not (self.grouped or self.is_referenced):
            return
        apart = source.frames // _SAMPLE_PLACES
        with np.errstate(invalid="ignore", over="ignore"):
            frames = np.concatenate(
                [source.read(i * apart, i * apart + few) for i in range(_SAMPLE_PLACES)]
            )
            if self.grouped:
                logs = self.buffer("logs", (self.padded_components, len(frames)))
                self.log_likelihoods(frames, logs)
                is_near = near(logs, self.group_threshold)[1]
                self.is_sparse = bool(is_near.mean() <= self.largest_share)
            if self.is_referenced and not self.is_sparse:
                logs = self.expand(frames).T @ self.relative
                far = self._far(exponentials(logs, self.lowest) @ self._ones)
                self.is_referenced = len(far) <= _LARGEST_FAR_SHARE * len(frames)

    def sums(self, source: FrameSource, start: int, stop: int, out: Array) -> float:
        """Sum over the frames start <= i < stop into `out`, and return their log-likelihood."""
        out[...] = 0.0
        total = self.arranged(out)
        log_likelihood = 0.0
        # The log-likelihood of a frame that is not finite is not finite; the caller checks that.
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            # The log-likelihoods of dense blocks are summed at the end, because threads may wait
            # for each other between two calls of numpy.
            shifts = self.buffer("shifts", (stop - start,))
            sums = self.buffer("sums", (stop - start,))
            dense = 0
            for first in range(start, stop, self.block):
                frames = source.read(first, min(first + self.block, stop))
                of_block = self.sparse(frames, total) if self.is_sparse else None
                if of_block is not None:
                    log_likelihood += of_block
                    continue
                block = slice(dense, dense + len(frames))
                dense = block.stop
                self.dense(frames, total, shifts[block], sums[block])
            log_likelihood += float(
                shifts[:dense].sum(dtype=np.float64) + np.log(sums[:dense]).sum(dtype=np.float64)
            )
            self.flush(total)
        return log_likelihood

    def dense(
        self, frames: npt.NDArray[np.floating], total: Array, shifts: AnyArray, sums: AnyArray
    ) -> None:
        """Add the statistics of all components; log-likelihoods become shifts + log(sums)."""
        products, posteriors = self.densities(frames, shifts, sums)
        # The smaller of both factors is scaled.
        if self.padded_components < self.width:
            posteriors *= (1 / sums)[:, np.newaxis]
        else:
            products *= 1 / sums
        part = self.buffer("part", (self.width, self.padded_components))
        np.matmul(products, posteriors, out=part)
        by_product = total.T
        by_product += part

    def densities(
        self, frames: npt.NDArray[np.floating], shifts: AnyArray, sums: AnyArray
    ) -> tuple[AnyArray, AnyArray]:
        """Return the products of coordinates, and exponentials (frames, rows) with these sums."""
        products = self.expand(frames)
        densities = self.buffer("logs", (len(frames), self.padded_components))
        if self.is_referenced:
            self.about_reference(products, densities, shifts, sums)
        else:
            np.matmul(products.T, self.coefficients, out=densities)
            self._about_maximum(densities, shifts, sums)
        return products, densities

    def log_likelihood(self, source: FrameSource, start: int, stop: int) -> float:
        """Sum the log-likelihoods of the frames start <= i < stop, without statistics."""
        shifts, sums = (self.buffer(name, (stop - start,)) for name in ("shifts", "sums"))
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            for first in range(start, stop, self.block):
                last = min(first + self.block, stop)
                block = slice(first - start, last - start)
                self.densities(source.read(first, last), shifts[block], sums[block])
            return float(shifts.sum(dtype=np.float64) + np.log(sums).sum(dtype=np.float64))

    def about_reference(
        self, products: AnyArray, out: AnyArray, shifts: AnyArray, sums: AnyArray
    ) -> None:
        """Write the exponentials of log w N(x) - shift, shape (frames, rows), and their sums."""
        np.matmul(self.reference, products, out=shifts)
        np.matmul(products.T, self.relative, out=out)
        np.matmul(exponentials(out, self.lowest), self._ones, out=sums)
        if sums.min() > self.least_sum and sums.max() < self.largest_sum:
            return
        far = self._far(sums)
        logs = products[:, far].T @ self.relative
        largest, sums_far = np.empty((2, len(far)), self.dtype)
        self._about_maximum(logs, largest, sums_far)
        out[far], sums[far] = logs, sums_far
        shifts[far] += largest

    def _far(self, sums: AnyArray) -> npt.NDArray[np.intp]:
        """Find the frames that are too far from the overall Gaussian, or not finite."""
        return np.flatnonzero(~((sums > self.least_sum) & (sums < self.largest_sum)))

    def _about_maximum(self, logs: AnyArray, shifts: AnyArray, sums: AnyArray) -> None:
        """Replace `logs` by exponentials of logs - shift, with each frame's maximum as shift."""
        logs.max(axis=1, out=shifts)
        logs -= shifts[:, np.newaxis]
        np.matmul(exponentials(logs, self.lowest), self._ones, out=sums)

    def sparse(self, frames: npt.NDArray[np.floating], total: Array) -> float | None:
        """Add the statistics of the components that matter; return None if there are too many."""
        logs = self.buffer("logs", (self.padded_components, len(frames)))
        products = self.log_likelihoods(frames, logs)
        top, is_near = near(logs, self.group_threshold)
        # The limit is doubled here, because the dense way would repeat the matrix product.
        if np.count_nonzero(is_near) > 2 * self.largest_share * is_near.size:
            return None
        entries, log_likelihood = near_posteriors(logs, top, is_near, self.lowest, self.pruning)
        self.add_sparse(entries, products, total)
        return log_likelihood

    def log_likelihoods(self, frames: npt.NDArray[np.floating], out: AnyArray) -> AnyArray:
        """Write ``log w N(x)``, shape (rows, frames), and return the products of coordinates."""
        products = self.expand(frames, by_frame=True)
        np.matmul(self.coefficients.T, products, out=out)
        return products

    def about_origin(self, frames: npt.NDArray[np.floating]) -> AnyArray:
        """Return frames - origin, without a copy if the origin is zero."""
        if self.is_centred:
            return frames.astype(self.dtype, copy=False)
        centred = self.buffer("centred", frames.shape)
        self.centred(frames, centred)
        return centred

    def centred(self, frames: npt.NDArray[np.floating], out: AnyArray) -> None:
        """Write frames - origin, subtracted in the higher of both precisions."""
        if self.is_centred:
            out[...] = frames
            return
        work = np.result_type(frames.dtype, self.dtype)
        # The origin has one row per frame, so that numpy runs over the memory in one loop.
        origin = self._origins.get(work.char)
        if origin is None:
            origin = np.tile(self.origin.astype(work), (self.block, 1))
            self._origins[work.char] = origin
        origin = origin[: len(frames)]
        np.subtract(frames.astype(work, copy=False), origin, out=out, casting="same_kind")

    def rounding(self) -> Array:
        """Compute the rounding error of a frame's log-likelihood under each component, (rows,).

        It is that of the terms of the expanded quadratic: their sum of absolute values, for a frame
        one overall deviation from the origin, times the spacing of numbers near one. If variances
        are tiny relative to the overall variance, the terms are large and nearly cancel.
        """
        terms = self.typical @ np.abs(self.coefficients[:-1], dtype=np.float64)
        return np.asarray(np.finfo(self.dtype).eps * terms)

    def keeps_digits(self) -> bool:
        """Whether the rounding error is small; if it is not, double precision is needed."""
        return bool(self.rounding().max() < _SINGLE_TOLERANCE)

    def expand(self, frames: npt.NDArray[np.floating], by_frame: bool = False) -> AnyArray:
        """Compute the products of the frames' coordinates, shape (width, frames).

        With `by_frame`, the products of a frame may be adjacent in memory.
        """
        raise NotImplementedError

    def add_sparse(self, entries: Entries, products: AnyArray, total: Array) -> None:
        """Add the statistics of a few posteriors."""
        raise NotImplementedError

    def flush(self, total: Array) -> None:
        """Add the statistics that `add_sparse` has only kept so far."""

    def finish(self, total: Array) -> tuple[Array, Array, Array]:
        """Return count, first and second order statistics about the origin, in units of frames."""
        raise NotImplementedError


def _origin(mixture: GaussianMixture) -> Array:
    """Choose an origin a few standard deviations from the frames, so that no digits are lost."""
    mean = mixture.overall_mean
    # For normalised features, zero is as good and saves a pass over the frames.
    if (np.abs(mean) <= np.sqrt(mixture.overall_variance)).all():
        return np.zeros_like(mean)
    # It is rounded to single precision, so that both precisions subtract the same value.
    return mean.astype(np.float32).astype(np.float64)
