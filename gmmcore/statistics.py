"""Sufficient statistics of frames under a mixture, and the E-step that computes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gmmcore.density import InvalidFramesError, checked_frames
from gmmcore.kernels import make_kernel
from gmmcore.model import GaussianMixture
from gmmcore.threads import ordered_map, single_blas

__all__ = [
    "ArraySource",
    "FrameSource",
    "Slice",
    "Statistics",
    "accumulate",
    "pack",
    "unpack",
]

Array = npt.NDArray[np.float64]
# Largest number of frames in one task of a thread.
_LARGEST_PIECE = 16384


@runtime_checkable
class FrameSource(Protocol):
    """Protocol of frames that are read in pieces, possibly by several threads at once."""

    @property
    def frames(self) -> int:
        """Number of frames."""

    @property
    def dimension(self) -> int:
        """Dimension of a frame."""

    def read(self, start: int, stop: int) -> npt.NDArray[np.floating]:
        """Return the frames start <= i < stop, shape (stop - start, D)."""


class ArraySource:
    """`FrameSource` of an array of shape (F, D).

    Raises
    ------
    InvalidFramesError
        If the array has another shape, is masked, or does not hold real numbers.
    """

    def __init__(self, values: npt.ArrayLike) -> None:
        array = checked_frames(values)
        if array.ndim != 2 or not array.shape[1]:
            raise InvalidFramesError(f"frames have shape {array.shape}, (F, D) was expected")
        self._values = array if array.dtype in (np.float32, np.float64) else array.astype(float)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return int(self._values.shape[0])

    @property
    def dimension(self) -> int:
        """Dimension of a frame."""
        return int(self._values.shape[1])

    def read(self, start: int, stop: int) -> npt.NDArray[np.floating]:
        """Return a view of the frames start <= i < stop."""
        return self._values[start:stop]


class Slice:
    """`FrameSource` of the frames first <= i < last of another source."""

    def __init__(self, source: FrameSource, first: int, last: int) -> None:
        self._source, self._first = source, first
        self.frames, self.dimension = last - first, source.dimension

    def read(self, start: int, stop: int) -> npt.NDArray[np.floating]:
        return self._source.read(self._first + start, self._first + stop)


@dataclass(frozen=True, eq=False)
class Statistics:
    """Sufficient statistics of order zero, one and two about an origin.

    Attributes
    ----------
    count : ndarray, shape (C,), float64
        Occupancies: sums of posteriors, in frames.
    first : ndarray, shape (C, D), float64
        Sums of posterior x (frame - origin).
    second : ndarray, shape (C, D) or (C, D (D + 1) / 2), float64
        Sums of posterior x (frame - origin)^2; for full covariances, the lower triangles of
        posterior x (frame - origin) (frame - origin)', by rows.
    origin : ndarray, shape (D,), float64
        Overall mean of the mixture, or zero if the mean is near zero: there, the sums lose no
        digits by cancellation.
    log_likelihood : float
        Sum of the frames' log-likelihoods (natural logarithm).
    frames : int
        Number of frames.
    is_full : bool
        Whether the second order statistics are packed symmetric matrices.
    """

    count: Array
    first: Array
    second: Array
    origin: Array
    log_likelihood: float
    frames: int
    is_full: bool

    @property
    def log_likelihood_per_frame(self) -> float:
        """Mean log-likelihood of a frame (natural logarithm); NaN without frames."""
        return self.log_likelihood / self.frames if self.frames else float("nan")

    def __add__(self, other: Statistics) -> Statistics:
        """Add the statistics of other frames; the origins must be the same."""
        if not np.array_equal(self.origin, other.origin):
            raise ValueError("statistics about different origins cannot be added")
        if self.second.shape != other.second.shape or self.is_full != other.is_full:
            raise ValueError(
                f"statistics of shape {self.second.shape} and {other.second.shape} cannot be added"
            )
        return Statistics(
            self.count + other.count,
            self.first + other.first,
            self.second + other.second,
            self.origin,
            self.log_likelihood + other.log_likelihood,
            self.frames + other.frames,
            self.is_full,
        )

    def is_finite(self) -> bool:
        """Whether every number is finite."""
        return bool(
            np.isfinite(self.log_likelihood)
            and np.isfinite(self.count).all()
            and np.isfinite(self.first).all()
            and np.isfinite(self.second).all()
            and np.isfinite(self.origin).all()
        )


def accumulate(
    mixture: GaussianMixture,
    source: FrameSource | npt.ArrayLike,
    *,
    precision: str = "double",
    pruning: float = 0.0,
    threads: int = 1,
) -> Statistics:
    """E-step: compute the sufficient statistics of frames under a mixture.

    Parameters
    ----------
    mixture : GaussianMixture
    source : FrameSource or array_like, shape (F, D)
    precision : {'double', 'single'}
        Precision of the matrix products. Sums over blocks of frames are always float64. How far
        single precision may be from double is `gmmcore.kernels.lost_digits`: it depends on the
        smallest variances relative to the overall ones. Where it is more than 0.05 for a frame,
        double is used instead.
    pruning : float
        Posteriors below this may be left out of the statistics, so that a component's occupancy
        is too low by less than this per frame; 0 is exact. A frame's log-likelihood is too low
        by at most 50 times this: with 2e-8, by 1e-6. A component loses at most the share pruning x
        frames / occupancy of its weight: typically 1e-5 or less, but 2e-4 for one that has 10,000
        posteriors just below 2e-8 for each frame of its own. Its mean and variance move by no more
        than that share, times the distance of these frames in its deviations, or its square.
    threads : int
        Number of threads. The result does not depend on it.

    Returns
    -------
    Statistics

    Raises
    ------
    InvalidFramesError
        If the frames have another dimension than the mixture, are masked, or are not real numbers.
    ValueError
        If `precision` or `pruning` has no valid value.
    FloatingPointError
        If a frame is not finite, or so far from every component that its log-likelihood is not.

    Examples
    --------
    >>> from gmmcore import GaussianMixture
    >>> from gmmcore.statistics import accumulate
    >>> mixture = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[10.0], [10.0]])
    >>> statistics = accumulate(mixture, [[-2.0], [-1.0], [1.0], [2.0]])
    >>> statistics.count.round(3)
    array([2., 2.])
    >>> round(statistics.log_likelihood_per_frame, 3)
    -2.961
    """
    frames = _as_source(source)
    if frames.dimension != mixture.dimension:
        raise InvalidFramesError(
            f"frames have dimension {frames.dimension}, the mixture has {mixture.dimension}"
        )
    with single_blas():
        kernel = make_kernel(mixture, precision, pruning)
        kernel.prepare(frames)

        def work(piece: tuple[int, int]) -> tuple[Array, float]:
            return kernel.sums(frames, *piece)

        total: Array | None = None
        log_likelihood = 0.0
        # The pieces are added in the order of the frames, whichever is ready first.
        for sums, of_piece in ordered_map(work, _pieces(frames.frames, kernel.piece), threads):
            log_likelihood += of_piece
            if total is None:
                total = sums
            else:
                total += sums
    if total is None:
        total = kernel.zeros()
    if not np.isfinite(log_likelihood):
        raise FloatingPointError(
            "the log-likelihood of the frames is not finite: a frame is not finite, "
            "or far outside the range of the mixture"
        )
    count, first, second = kernel.finish(total)
    return Statistics(
        count, first, second, kernel.origin, log_likelihood, frames.frames, mixture.is_full
    )


def _pieces(frames: int, least: int) -> Iterator[tuple[int, int]]:
    """Yield the first and last frame of each task of a thread; lengths are multiples of `least`.

    The pieces become shorter towards the end, so that all threads end at about the same time.
    They do not depend on the number of threads, because they fix the order of addition.
    """
    start = 0
    while start < frames:
        wanted = min((frames - start) // 8, _LARGEST_PIECE) // least * least
        stop = min(start + max(wanted, least), frames)
        yield start, stop
        start = stop


def _as_source(source: Any) -> FrameSource:
    return source if hasattr(source, "read") else ArraySource(source)


def pack(matrices: Array) -> Array:
    """Pack symmetric matrices (C, D, D) to lower triangles by rows, (C, D (D + 1) / 2)."""
    rows, columns = np.tril_indices(matrices.shape[-1])
    return np.ascontiguousarray(matrices[..., rows, columns])


def unpack(packed: Array) -> Array:
    """Unpack lower triangles by rows, (C, D (D + 1) / 2), to symmetric matrices (C, D, D)."""
    size = packed.shape[-1]
    dimension = (int(np.sqrt(8 * size + 1)) - 1) // 2
    rows, columns = np.tril_indices(dimension)
    result = np.empty((*packed.shape[:-1], dimension, dimension))
    result[..., rows, columns] = packed
    result[..., columns, rows] = packed
    return result
