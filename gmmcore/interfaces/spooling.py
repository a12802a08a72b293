"""Frames of many shows as one source, which lies in a temporary file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from gmmcore.core.frames import ArraySource
from gmmcore.errors import GmmcoreError
from gmmcore.files import reason_of

__all__ = ["spooled"]


def spooled(shows: Iterable[tuple[str, npt.NDArray[np.generic]]]) -> ArraySource:
    """Join the frames of shows, with only one show in memory.

    The frames lie in a temporary file without a name, which the operating system keeps in memory
    as far as there is room.

    Parameters
    ----------
    shows : iterable of (str, ndarray)
        Name and frames, of shape (n, D), of each show. If those of the first one are float32, all
        are stored as float32, and as float64 otherwise.

    Raises
    ------
    GmmcoreError
        If there are no frames, if those of a show have another dimension than the show before or
        hold a value that is not finite, or if there is no room for the file.
    """
    count = dimension = 0
    dtype: npt.DTypeLike = np.float64
    try:
        with tempfile.TemporaryFile(prefix="gmmcore-frames-") as stream:
            for show, values in shows:
                if not dimension and values.ndim == 2:
                    dimension = int(values.shape[1])
                    # Numbers that were float32 are stored as they are.
                    dtype = np.float32 if values.dtype == np.float32 else np.float64
                _check_values(show, values, dimension)
                np.ascontiguousarray(values, dtype).tofile(stream)
                count += len(values)
            if not count:
                raise GmmcoreError("the feature list: no frames are left; check shows and labels")
            stream.flush()
            return ArraySource(np.memmap(stream, dtype, "r", shape=(count, dimension)))
    except OSError as error:
        raise GmmcoreError(
            f"{tempfile.gettempdir()}: cannot keep the frames: {reason_of(error)}; "
            "free space, or set TMPDIR to another folder"
        ) from error


def _check_values(show: str, values: npt.NDArray[np.generic], dimension: int) -> None:
    if values.ndim != 2 or values.shape[1] != dimension or not dimension:
        raise GmmcoreError(
            f"show {show}: frames of shape {values.shape}, (n, {dimension or 'D'}) was "
            "expected; check the show's features"
        )
    if not np.isfinite(values).all():
        raise GmmcoreError(
            f"show {show}: a frame holds a value that is not finite; fix or skip the show"
        )
