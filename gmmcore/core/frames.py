"""Frames that are read in pieces, from memory or from anywhere else."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gmmcore.core.density import InvalidFramesError, checked_frames

Weights = npt.NDArray[np.float64]
# Least number of frames to which `repeated` reduces those that large weights would give.
_REPEATED = 200_000


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
    """`FrameSource` of an array (F, D), whose frames count as often as `weights` (F,) say."""

    def __init__(self, values: npt.ArrayLike, weights: Weights | None = None) -> None:
        array = checked_frames(values)
        if array.ndim != 2 or not array.shape[1]:
            told = "; x[:, None] makes frames of dimension 1" if array.ndim == 1 else ""
            raise InvalidFramesError(f"frames have shape {array.shape}, (F, D) was expected{told}")
        self._values = array if array.dtype in (np.float32, np.float64) else array.astype(float)
        self.weights = weights
        self.frames, self.dimension = array.shape

    def read(self, start: int, stop: int) -> npt.NDArray[np.floating]:
        """Return the frames start <= i < stop; a view, if the array is C-contiguous."""
        # The order of addition, and so the last bits of sums, depends on the layout.
        return np.ascontiguousarray(self._values[start:stop])


class Slice:
    """`FrameSource` of a part of another one; where it is pickled, it takes its frames along."""

    def __init__(self, source: FrameSource, first: int, last: int, offset: int = 0) -> None:
        self._source, self._first = source, first
        self.offset = first + offset  # Number of the first frame, for messages.
        self.kept: dict[Any, Any] = {}  # The same frames on a GPU, by their layout.
        self.frames, self.dimension = last - first, source.dimension
        self.weights = weights_of(source, first, last)

    @property
    def total(self) -> float:
        """Number of frames, or the sum of their weights."""
        return total_of(self)

    def read(self, start: int, stop: int) -> npt.NDArray[np.floating]:
        return self._source.read(self._first + start, self._first + stop)

    def __reduce__(self) -> tuple[Any, ...]:
        taken = ArraySource(self.read(0, self.frames), self.weights)
        return Slice, (taken, 0, self.frames, self.offset)


def weights_of(source: FrameSource, start: int, stop: int) -> Weights | None:
    """Return the weights of the frames start <= i < stop; None if each of them counts once."""
    weights: Weights | None = getattr(source, "weights", None)
    return None if weights is None else weights[start:stop]


def total_of(source: FrameSource) -> float:
    """Return the number of frames, or the sum of their weights."""
    weights = weights_of(source, 0, source.frames)
    return source.frames if weights is None else float(weights.sum())


def repeated(source: FrameSource) -> npt.NDArray[np.floating]:
    """Read all frames, each as often as its weight says, for what knows no weights.

    >>> repeated(ArraySource([[1.0], [2.0], [3.0]], np.array([2.0, 0.5, 0.5]))).ravel()
    array([1., 1., 2.])
    """
    frames = source.read(0, source.frames)
    weights = weights_of(source, 0, source.frames)
    if weights is None:
        return frames
    # Partial sums are rounded instead of weights, so that fractions are not lost.
    scale = min(1.0, max(_REPEATED, len(frames)) / weights.sum())
    ends = np.floor(scale * np.cumsum(weights) + 0.5)
    return np.repeat(frames, np.diff(ends, prepend=0.0).astype(int), axis=0)


def as_source(source: Any) -> FrameSource:
    """Return a source of frames as it is, and an array as an `ArraySource`."""
    return source if hasattr(source, "read") else ArraySource(source)
