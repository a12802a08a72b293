"""What the kernels share: blocks, exponentials of log-likelihoods, posteriors, sums in float64.

A block goes one of two ways. Densely, with every component: log-likelihoods lie as (frames,
components). Where a kernel has them relative to a Gaussian with the mixture's overall moments, they
are raised to exponentials as they come out of the matrix product, without a look for the largest.
Or sparsely, with the components that count for a frame (`gmmcore.kernels.grouped`).
"""

from __future__ import annotations

import math
import threading
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gmmcore.kernels.grouped import GROUP, Entries, exponentials, near, near_posteriors
from gmmcore.model import GaussianMixture

__all__ = ["AnyArray", "Array", "Kernel"]

Array = npt.NDArray[np.float64]
AnyArray = npt.NDArray[Any]
# Exponents below this one are raised to it: what exp() makes of lower ones are, times a
# frame's coordinates, denormal numbers, which slow a matrix product a hundredfold.
_SMALLEST_EXPONENT = {"f": -45.0, "d": -600.0}
_NO_WEIGHT = -1e30
# Rounding error, in a frame's log-likelihood, above which single precision is not used.
_SINGLE_TOLERANCE = 0.05
# With fewer components, passing over some costs more than it saves.
_LEAST_COMPONENTS = 128
# Numbers in the largest array of a thread.
_LARGEST_BUFFER = 1 << 22
# Frames of each place in the source that are looked at before the work begins, and places.
_SAMPLE_FRAMES = 128
_SAMPLE_PLACES = 4
# Share of the frames that may be too far from the overall Gaussian; each is worked on twice.
_LARGEST_FAR_SHARE = 0.125


class _Source(Protocol):
    @property
    def frames(self) -> int: ...

    def read(self, start: int, stop: int) -> npt.NDArray[np.floating]: ...


class Kernel:
    """A mixture's coefficients, and sums over frames under it.

    Attributes
    ----------
    origin : ndarray, shape (D,), float64
        The mixture's overall mean, or zero where that is near, which the statistics are about.
    is_centred : bool
        Whether the origin is zero.
    width : int
        Products of a frame's coordinates, the constant included.
    block : int
        Frames worked on together: a power of two, at most 4096, so that they lie in one block of a
        shard. Part of the arithmetic: it fixes the order of addition.
    piece : int
        Frames that are worth a task of a thread, with sums of its own: a multiple of `block`.
    largest_share : float
        Share of groups near the best one above which passing over the others costs more than
        it saves.
    is_sparse : bool
        Whether blocks are tried with the components that count; else all are dense.
    is_referenced : bool
        Whether exponentials are taken relative to `reference`, or to each frame's maximum.
    coefficients : ndarray, shape (width, rows)
        Of log w N(x). A column a component, and columns of weight zero until `rows` is a multiple
        of the groups.
    relative : ndarray, shape (width, rows)
        The same less `reference`.
    reference : ndarray, shape (width,)
        Coefficients of the overall Gaussian, with about the mixture's log-likelihood. Only where
        a matrix product costs little: frames that are far from it are worked on twice.
    typical : ndarray, shape (width - 1,)
        Size of the products of a frame one overall deviation from the origin.
    """

    block = 1024
    piece = 8192
    largest_share = 0.35
    coefficients: AnyArray
    relative: AnyArray
    reference: AnyArray
    typical: Array

    def __init__(
        self, mixture: GaussianMixture, dtype: npt.DTypeLike, pruning: float, width: int
    ) -> None:
        self.mixture = mixture
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.pruning = pruning
        self.width = width
        self.origin = _origin(mixture)
        self.is_centred = not self.origin.any()
        self.grouped = pruning > 0.0 and mixture.components >= _LEAST_COMPONENTS
        self.rows = mixture.components
        if self.grouped:
            self.rows += -self.rows % GROUP
            # All that is skipped has together at most fifty times `pruning` of a frame.
            self.group_threshold = np.array(np.log(50.0 * pruning / self.rows), dtype)
        self.is_sparse = self.grouped
        self.is_referenced = False
        limits = np.finfo(self.dtype)
        self.lowest = np.array(_SMALLEST_EXPONENT[self.dtype.char], dtype)
        smallest = math.exp(self.lowest)
        # Sums of a frame's exponentials between which none that counts was raised, and its
        # posteriors times coordinates of a thousandth are no denormal numbers.
        self.least_sum = 16 * self.rows * smallest / float(limits.eps)
        self.largest_sum = 1e-3 * smallest / float(limits.tiny)
        self.block = self.fitting(self.block)
        self._own = threading.local()
        self._ones = np.ones(self.rows, self.dtype)
        self._origins: dict[str, AnyArray] = {}

    def set_coefficients(self, columns: list[Array], reference: Array | None = None) -> None:
        """Keep the coefficients of all components, side by side, the constant last."""
        values = np.concatenate(columns, axis=1)
        self.coefficients = self._rounded(values)
        if reference is not None:
            self.is_referenced = True
            self.reference = reference.astype(self.dtype)
            # Less what it was rounded to, so that its own rounding takes nothing off the sum.
            self.relative = self._rounded(values - self.reference)

    def _rounded(self, values: Array) -> AnyArray:
        """Columns of `values` in the precision of the products; those without weight below."""
        result = np.zeros((self.width, self.rows), self.dtype)
        result[-1] = _NO_WEIGHT
        with np.errstate(over="ignore"):  # `keeps_digits` refuses what overflowed
            result[:, : len(values)] = values.T
        np.maximum(result[-1], _NO_WEIGHT, out=result[-1])
        return result

    def fitting(self, block: int) -> int:
        """`block`, or less: bounded in memory however many components or products there are."""
        most = _LARGEST_BUFFER // max(self.rows, self.width)
        return max(64, min(block, 1 << most.bit_length() - 1))

    def zeros(self) -> Array:
        """Empty sums, shape (rows, width), in the order of memory they are made in."""
        return np.zeros((self.rows, self.width), order="C" if self.is_sparse else "F")

    def buffer(self, name: str, shape: tuple[int, ...]) -> AnyArray:
        """An array of this thread's own, kept from block to block; its content is undefined."""
        size = math.prod(shape)
        kept: AnyArray | None = getattr(self._own, name, None)
        if kept is None or kept.size < size:
            kept = np.empty(size, self.dtype)
            setattr(self._own, name, kept)
        return kept[:size].reshape(shape)

    def prepare(self, source: _Source) -> None:
        """Look at some frames, to choose the faster way for those of `source`.

        Either way is right for all frames. What is chosen depends on nothing but the frames.
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
                logs = self.buffer("logs", (self.rows, len(frames)))
                self.log_likelihoods(frames, logs)
                is_near = near(logs, self.group_threshold)[1]
                self.is_sparse = bool(is_near.mean() <= self.largest_share)
            if self.is_referenced and not self.is_sparse:
                logs = self.expand(frames).T @ self.relative
                far = self._far(exponentials(logs, self.lowest) @ self._ones)
                self.is_referenced = len(far) <= _LARGEST_FAR_SHARE * len(frames)

    def sums(self, source: _Source, start: int, stop: int) -> tuple[Array, float]:
        """Sums over frames `start` to `stop`: statistics (rows, width) and log-likelihood."""
        total = self.zeros()
        log_likelihood = 0.0
        # A frame that is not finite makes its log-likelihood so; `accumulate` looks at that.
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            # What the dense blocks leave is summed at the end: between two calls of numpy, threads
            # may have to wait for each other.
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
        return total, log_likelihood

    def dense(
        self, frames: npt.NDArray[np.floating], total: Array, shifts: AnyArray, sums: AnyArray
    ) -> None:
        """Add statistics of all components; write shifts whose log-likelihood is log(sums)."""
        products = self.expand(frames)
        posteriors = self.buffer("logs", (len(frames), self.rows))
        if self.is_referenced:
            self.about_reference(products, posteriors, shifts, sums)
        else:
            np.matmul(products.T, self.coefficients, out=posteriors)
            self._about_maximum(posteriors, shifts, sums)
        # The smaller factor is scaled.
        if self.rows < self.width:
            posteriors *= (1 / sums)[:, np.newaxis]
        else:
            products *= 1 / sums
        part = self.buffer("part", (self.width, self.rows))
        np.matmul(products, posteriors, out=part)
        by_product = total.T
        by_product += part

    def about_reference(
        self, products: AnyArray, out: AnyArray, shifts: AnyArray, sums: AnyArray
    ) -> None:
        """Write exponentials of log w N(x) - shift, shape (frames, rows); and their sums."""
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
        """Frames for which the overall Gaussian is no measure, or that are not finite."""
        return np.flatnonzero(~((sums > self.least_sum) & (sums < self.largest_sum)))

    def _about_maximum(self, logs: AnyArray, shifts: AnyArray, sums: AnyArray) -> None:
        """Exponentials of logs - shift in place of `logs`, the shift each frame's largest."""
        logs.max(axis=1, out=shifts)
        logs -= shifts[:, np.newaxis]
        np.matmul(exponentials(logs, self.lowest), self._ones, out=sums)

    def sparse(self, frames: npt.NDArray[np.floating], total: Array) -> float | None:
        """Add statistics of the components that count; None if those are too many."""
        logs = self.buffer("logs", (self.rows, len(frames)))
        products = self.log_likelihoods(frames, logs)
        top, is_near = near(logs, self.group_threshold)
        # By now a product is made, and would be made again.
        if np.count_nonzero(is_near) > 2 * self.largest_share * is_near.size:
            return None
        entries, log_likelihood = near_posteriors(logs, top, is_near, self.lowest, self.pruning)
        self.add_sparse(entries, products, total)
        return log_likelihood

    def log_likelihoods(self, frames: npt.NDArray[np.floating], out: AnyArray) -> AnyArray:
        """Write ``log w N(x)``, shape (rows, frames); the products it was made from."""
        products = self.expand(frames, by_frame=True)
        np.matmul(self.coefficients.T, products, out=out)
        return products

    def about_origin(self, frames: npt.NDArray[np.floating]) -> AnyArray:
        """Frames about the origin; without a copy if that is zero."""
        if self.is_centred:
            return frames.astype(self.dtype, copy=False)
        centred = self.buffer("centred", frames.shape)
        self.centred(frames, centred)
        return centred

    def centred(self, frames: npt.NDArray[np.floating], out: AnyArray) -> None:
        """Write frames - origin, subtracted in the better of both precisions."""
        if self.is_centred:
            out[...] = frames
            return
        work = np.result_type(frames.dtype, self.dtype)
        # A row a frame: one run over the memory instead of one a frame.
        origin = self._origins.get(work.char)
        if origin is None:
            origin = np.tile(self.origin.astype(work), (self.block, 1))
            self._origins[work.char] = origin
        origin = origin[: len(frames)]
        np.subtract(frames.astype(work, copy=False), origin, out=out, casting="same_kind")

    def keeps_digits(self) -> bool:
        """Whether rounding leaves a frame near the mixture a sensible log-likelihood.

        Where variances are tiny beside the overall one, the expanded quadratic is a small
        difference of large terms; such a mixture needs double precision.
        """
        size = (self.typical @ np.abs(self.coefficients[:-1], dtype=np.float64)).max()
        return bool(np.finfo(self.dtype).eps * size < _SINGLE_TOLERANCE)

    def expand(self, frames: npt.NDArray[np.floating], by_frame: bool = False) -> AnyArray:
        """Products of the frames' coordinates, shape (width, frames).

        `by_frame` leaves to the kernel whether a frame's products lie together.
        """
        raise NotImplementedError

    def add_sparse(self, entries: Entries, products: AnyArray, total: Array) -> None:
        """Add statistics of a few posteriors."""
        raise NotImplementedError

    def flush(self, total: Array) -> None:
        """Add what `add_sparse` may have kept back."""

    def finish(self, total: Array) -> tuple[Array, Array, Array]:
        """Count, first and second order statistics about the origin, in the frames' units."""
        raise NotImplementedError


def _origin(mixture: GaussianMixture) -> Array:
    """Where statistics lose no digits: frames are a few deviations away."""
    mean = mixture.overall_mean
    # Zero serves features that were normalised as well, and spares a pass over the frames.
    if (np.abs(mean) <= np.sqrt(mixture.overall_variance)).all():
        return np.zeros_like(mean)
    # Rounded to single precision, so that subtracting it is exact in either precision.
    return mean.astype(np.float32).astype(np.float64)
