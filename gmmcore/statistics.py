"""Sufficient statistics: what an E-step over frames leaves behind, and how it is added up."""

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

__all__ = ["ArraySource", "FrameSource", "Statistics", "accumulate", "pack", "unpack"]

Array = npt.NDArray[np.float64]
# The longest piece of the frames, for a thread.
_LARGEST_PIECE = 16384


@runtime_checkable
class FrameSource(Protocol):
    """Frames that are read piece by piece, possibly from several threads at once."""

    @property
    def frames(self) -> int:
        """Number of frames."""

    @property
    def dimension(self) -> int:
        """Dimension of a frame."""

    def read(self, start: int, stop: int) -> npt.NDArray[np.floating]:
        """Frames `start` to `stop` as an array of shape (stop - start, D)."""


class ArraySource:
    """An array of shape (F, D) as a `FrameSource`.

    Raises
    ------
    InvalidFramesError
        If it has another shape, is masked, or does not hold real numbers.
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
        """Frames `start` to `stop`, a view."""
        return self._values[start:stop]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Zeroth, first and second order statistics about an origin.

    Attributes
    ----------
    count : ndarray, shape (C,), float64
        Occupancies: sums of posteriors, in frames.
    first : ndarray, shape (C, D), float64
        Sums of posterior x (frame - origin).
    second : ndarray, shape (C, D) or (C, D (D + 1) / 2), float64
        Sums of posterior x (frame - origin)^2; for full covariances the lower triangle
        of the products, by rows.
    origin : ndarray, shape (D,), float64
        The mixture's overall mean, or zero if that is near it: there no digits cancel.
    log_likelihood : float
        Natural logarithm, sum over the frames.
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
        """Natural logarithm per frame; NaN without frames."""
        return self.log_likelihood / self.frames if self.frames else float("nan")

    def __add__(self, other: Statistics) -> Statistics:
        """Statistics of both sets of frames; the origins must be the same."""
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
    """E-step: the sufficient statistics of frames under a mixture.

    Parameters
    ----------
    mixture : GaussianMixture
    source : FrameSource or array_like, shape (F, D)
    precision : {'double', 'single'}
        Of the matrix products. Sums over blocks of frames are float64 in either case.
    pruning : float
        Posteriors below this may be left out of the statistics, so that a component's count
        is short by less than this a frame; 0 is exact. A frame's log-likelihood is at most
        50 times this too low. 2e-8 keeps it within 1e-6, and the parameters of components that
        have frames within 1e-5 (means in deviations, weights and variances relative).
    threads : int
        Threads over pieces of the frames. The result does not depend on it.

    Returns
    -------
    Statistics

    Raises
    ------
    InvalidFramesError
        If the dimensions do not fit, or the frames are masked or no real numbers.
    ValueError
        If an option is unknown.
    FloatingPointError
        If a frame is not finite, or so far from every component that its
        log-likelihood is not.
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
        # The pieces are added in their own order, whichever is ready first.
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
    """Starts and stops of the frames that the tasks of threads work on, multiples of `least`.

    They become shorter towards the end, so that threads end together. The number of threads
    plays no part: pieces fix the order of addition.
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
    """Lower triangles, by rows, of symmetric matrices: (C, D, D) to (C, D (D + 1) / 2)."""
    rows, columns = np.tril_indices(matrices.shape[-1])
    return np.ascontiguousarray(matrices[..., rows, columns])


def unpack(packed: Array) -> Array:
    """Symmetric matrices from their lower triangles: (C, D (D + 1) / 2) to (C, D, D)."""
    size = packed.shape[-1]
    dimension = (int(np.sqrt(8 * size + 1)) - 1) // 2
    rows, columns = np.tril_indices(dimension)
    result = np.empty((*packed.shape[:-1], dimension, dimension))
    result[..., rows, columns] = packed
    result[..., columns, rows] = packed
    return result
