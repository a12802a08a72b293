"""Frames that are read in pieces, from memory or from anywhere else."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gmmcore.core.density import InvalidFramesError, checked_frames


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
        """Return the frames start <= i < stop; a view, if the array is C-contiguous."""
        # The order of addition, and so the last bits of sums, depends on the layout.
        return np.ascontiguousarray(self._values[start:stop])


class Slice:
    """`FrameSource` of the frames first <= i < last of another source.

    A slice that is pickled, for a worker without the source, takes its frames along.
    """

    def __init__(self, source: FrameSource, first: int, last: int) -> None:
        self._source, self._first = source, first
        self.offset = first  # Number of the first frame, for messages.
        self.kept: dict[Any, Any] = {}  # The same frames on a GPU, by their layout.
        self.frames, self.dimension = last - first, source.dimension

    def read(self, start: int, stop: int) -> npt.NDArray[np.floating]:
        return self._source.read(self._first + start, self._first + stop)

    def __reduce__(self) -> tuple[Any, ...]:
        return _taken, (self.read(0, self.frames), self.offset)


def _taken(frames: npt.NDArray[np.floating], first: int) -> Slice:
    """Make a slice that holds its frames, and has the number of its first one."""
    taken = Slice(ArraySource(frames), 0, len(frames))
    taken.offset = first
    return taken


def as_source(source: Any) -> FrameSource:
    """Return a source of frames as it is, and an array as an `ArraySource`."""
    return source if hasattr(source, "read") else ArraySource(source)
