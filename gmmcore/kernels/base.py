"""What the kernels share: blocks, log-sum-exp, posteriors, sums in float64.

A block's log-likelihoods lie as (components, frames): the maximum over the components and every
step with one number a frame are then long runs over contiguous memory.
"""

from __future__ import annotations

import math
import threading
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gmmcore.model import GaussianMixture

__all__ = ["AnyArray", "Array", "Entries", "Kernel", "rounded"]

Array = npt.NDArray[np.float64]
AnyArray = npt.NDArray[Any]
# Exponents below this one are raised to it: what exp() makes of lower ones are, times a
# frame's coordinates, denormal numbers, which slow a matrix product a hundredfold.
_SMALLEST_EXPONENT = {"f": -50.0, "d": -600.0}
NO_WEIGHT = -1e30
# Rounding error, in a frame's log-likelihood, above which single precision is not used.
_SINGLE_TOLERANCE = 0.05
# Components that are looked at, or passed over, together. A mixture that was split holds its
# relatives C / 4 apart, and so they are grouped.
_GROUP = 4
# With fewer components, passing over some costs more than it saves.
_LEAST_COMPONENTS = 128
# Numbers in the largest array of a thread.
_LARGEST_BUFFER = 1 << 22


class _Source(Protocol):
    def read(self, start: int, stop: int) -> npt.NDArray[np.floating]: ...


class Entries(NamedTuple):
    """The posteriors of a block that count, by component (compressed rows)."""

    values: AnyArray
    frames: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]


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
    least_frames : int
        Frames that are worth a task of a thread, with sums of its own.
    largest_share : float
        Share of groups near the best one above which passing over the others costs more than
        it saves.
    coefficients : ndarray, shape (rows, width)
        A row a component, and rows of weight zero until `rows` is a multiple of the groups.
    typical : ndarray, shape (width - 1,)
        Size of the products of a frame one overall deviation from the origin.
    """

    block = 1024
    least_frames = 8192
    largest_share = 0.5
    coefficients: AnyArray
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
            self.rows += -self.rows % _GROUP
            # All that is passed over has together at most fifty times `pruning` of a frame.
            self.group_threshold = np.array(np.log(50.0 * pruning / self.rows), dtype)
        self.lowest = np.array(_SMALLEST_EXPONENT[self.dtype.char], dtype)
        self.block = self.fitting(self.block)
        self._own = threading.local()
        self._ones = np.ones(self.rows, self.dtype)
        self._origins: dict[str, AnyArray] = {}

    def fitting(self, block: int) -> int:
        """`block`, or less: bounded in memory however many components or products there are."""
        most = _LARGEST_BUFFER // max(self.rows, self.width)
        return max(64, min(block, 1 << most.bit_length() - 1))

    def zeros(self) -> Array:
        """Empty sums, shape (rows, width)."""
        return np.zeros((self.rows, self.width))

    def buffer(self, name: str, shape: tuple[int, ...]) -> AnyArray:
        """An array of this thread's own, kept from block to block; its content is undefined."""
        size = math.prod(shape)
        kept: AnyArray | None = getattr(self._own, name, None)
        if kept is None or kept.size < size:
            kept = np.empty(size, self.dtype)
            setattr(self._own, name, kept)
        return kept[:size].reshape(shape)

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
                logs = self.buffer("logs", (self.rows, len(frames)))
                products = self.log_likelihoods(frames, logs)
                found = self.sparse_posteriors(logs) if self.grouped else None
                if found is not None:
                    entries, of_block = found
                    self.add_sparse(entries, products, total)
                    log_likelihood += of_block
                    continue
                block = slice(dense, dense + len(frames))
                dense = block.stop
                self.dense_posteriors(logs, shifts[block], sums[block])
                self.add_dense(logs, 1 / sums[block], products, total)
            log_likelihood += float(
                shifts[:dense].sum(dtype=np.float64) + np.log(sums[:dense]).sum(dtype=np.float64)
            )
            self.flush(total)
        return total, log_likelihood

    def dense_posteriors(self, logs: AnyArray, shifts: AnyArray, sums: AnyArray) -> None:
        """Exponentials of logs - shift in place of `logs`; a frame's shift and sum of them."""
        logs.max(axis=0, out=shifts)
        logs -= shifts
        np.maximum(logs, self.lowest, out=logs)
        np.exp(logs, out=logs)
        # A product with ones adds faster, and in more parts, than sum().
        np.matmul(self._ones, logs, out=sums)

    def sparse_posteriors(self, logs: AnyArray) -> tuple[Entries, float] | None:
        """The posteriors from `pruning` on, and the sum of logarithms; None if too many count."""
        groups = self.rows // _GROUP
        frames = logs.shape[1]
        grouped = logs.reshape(_GROUP, groups * frames)
        best = grouped.max(axis=0).reshape(groups, frames)
        top = best.max(axis=0)
        is_near = best > top + self.group_threshold
        if np.count_nonzero(is_near) > self.largest_share * best.size:
            return None
        near = np.flatnonzero(is_near)
        # A frame that is not finite is near nothing; its logarithm of zero tells.
        frame = _remainder(near, frames)
        values = grouped.take(near, axis=1)
        values -= top[frame]
        np.maximum(values, self.lowest, out=values)
        np.exp(values, out=values)
        total = np.bincount(frame, self._ones[:_GROUP] @ values, frames)
        values *= (1.0 / total).astype(self.dtype)[frame]
        kept = np.flatnonzero(values.ravel() > self.pruning)
        column = _remainder(kept, len(near))
        bounds = np.searchsorted(near, np.arange(groups) * frames)
        bounds = (np.arange(_GROUP)[:, np.newaxis] * len(near) + bounds).ravel()
        starts = np.append(np.searchsorted(kept, bounds), len(kept))
        entries = Entries(values.ravel()[kept], frame.astype(np.int32)[column], starts)
        log_likelihood = top.sum(dtype=np.float64) + np.log(total).sum()
        return entries, float(log_likelihood)

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
        size = (np.abs(self.coefficients[:, :-1], dtype=np.float64) @ self.typical).max()
        return bool(np.finfo(self.dtype).eps * size < _SINGLE_TOLERANCE)

    def log_likelihoods(self, frames: npt.NDArray[np.floating], out: AnyArray) -> AnyArray:
        """Write ``log w N(x)``, shape (rows, frames); the products it was made from."""
        raise NotImplementedError

    def add_dense(
        self, posteriors: AnyArray, scale: AnyArray, products: AnyArray, total: Array
    ) -> None:
        """Add statistics of `posteriors` times a frame's `scale`; may overwrite both."""
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


def _remainder(indices: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.int64]:
    """``indices % width``, which numpy has no fast loop for."""
    if width & (width - 1) == 0:
        return indices & (width - 1)
    return indices - indices // width * width


def rounded(columns: list[Array], rows: int, dtype: npt.DTypeLike) -> AnyArray:
    """Coefficients side by side in `dtype`, the last the constant; rows without weight below."""
    result = np.zeros((rows, sum(part.shape[1] for part in columns)), dtype)
    result[:, -1] = NO_WEIGHT
    with np.errstate(over="ignore"):  # `keeps_digits` refuses what overflowed
        values = np.concatenate(columns, axis=1).astype(dtype)
    values[:, -1] = np.maximum(values[:, -1], NO_WEIGHT)
    result[: len(values)] = values
    return result
