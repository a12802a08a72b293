"""Sources of frames for the functions of a notebook: arrays, memory maps and feature files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.config.keys import FeatureSettings
from gmmcore.core.density import InvalidFramesError, checked_frames
from gmmcore.core.frames import ArraySource, FrameSource, weights_of
from gmmcore.data.check import drawn
from gmmcore.data.lists import Entry, Listing
from gmmcore.data.readers import place_of
from gmmcore.data.score import Shows
from gmmcore.errors import GmmcoreError
from gmmcore.files import reason_of

_BLOCK = 65536
_Read = Callable[[Iterable[str]], Iterator[tuple[str, npt.NDArray[Any]]]]


def is_shows(values: Any) -> bool:
    """Whether values are shows: a path, or a list of paths or of arrays (n, D)."""
    if isinstance(values, str | os.PathLike):
        return True
    if not isinstance(values, list | tuple) or not values:
        return False
    return all(isinstance(one, str | os.PathLike) for one in values) or all(
        isinstance(one, np.ndarray) and one.ndim == 2 for one in values
    )


def opened(
    values: Any, features: Mapping[str, Any] | None = None, seed: int = 1, what: str = "frames"
) -> FrameSource:
    """Make a source of all frames; `values` and `features` are those of `gmmcore.train`."""
    if is_shows(values):
        return _Shows(values, features, seed).joined()
    if features:
        raise GmmcoreError(
            "features: given with frames in an array; expected a list of files, whose frames they "
            "process; leave them out"
        )
    source = values if isinstance(values, FrameSource) else ArraySource(values)
    if not source.frames:
        raise InvalidFramesError(
            f"{what}: an array of shape (0, {source.dimension}); expected one frame or more; "
            "check where it is made"
        )
    for start in range(0, source.frames, _BLOCK):
        finite = np.isfinite(source.read(start, min(start + _BLOCK, source.frames))).all(axis=1)
        if not finite.all():
            raise InvalidFramesError(
                f"{what}: frame {start + int(finite.argmin())} (counted from 0) holds a value that "
                "is not finite; expected numbers only; fix or leave out the frame"
            )
    return source


def divided(
    values: Any, held_out: Any, features: Mapping[str, Any] | None, seed: int
) -> tuple[FrameSource, FrameSource | None]:
    """Make sources of the frames to train on and of held-out frames, given or a share."""
    if held_out is None:
        return opened(values, features, seed), None
    if not isinstance(held_out, int | float | np.number):
        held = opened(held_out, features if is_shows(held_out) else None, seed, "held_out")
        source = opened(values, features, seed)
        if held.dimension != source.dimension:
            raise InvalidFramesError(
                f"held_out: frames of dimension {held.dimension}; expected {source.dimension}, "
                "as in training; give them the same features"
            )
        return source, held
    if not 0 < held_out < 1:
        raise GmmcoreError(
            f"held_out: {held_out}; expected a share of the frames above 0 and below 1, or frames; "
            "correct it"
        )
    if is_shows(values) and len((shows := _Shows(values, features, seed)).sizes) > 1:
        held_shows = shows.drawn(float(held_out), seed)
        return shows.joined(shows.sizes.keys() - held_shows), shows.joined(held_shows)
    source = opened(values, features, seed)
    count = round(held_out * source.frames)
    if not 0 < count < source.frames:
        raise GmmcoreError(
            f"held_out: {held_out} of {source.frames} frames; expected some frames to hold out and "
            "some to train on; change it"
        )
    chosen = np.zeros(source.frames, dtype=bool)
    chosen[np.random.default_rng(seed).choice(source.frames, count, replace=False)] = True
    return _Chosen(source, np.flatnonzero(~chosen)), _Chosen(source, np.flatnonzero(chosen))


class _Chosen:
    """`FrameSource` of some frames of another source, whose numbers are in rising order."""

    def __init__(self, source: FrameSource, numbers: npt.NDArray[np.intp]) -> None:
        self._source, self._numbers = source, numbers
        self.frames, self.dimension = len(numbers), source.dimension
        weights = weights_of(source, 0, source.frames)
        self.weights = None if weights is None else weights[numbers]

    def read(self, start: int, stop: int) -> npt.NDArray[np.floating]:
        numbers = self._numbers[start:stop]
        if not len(numbers):
            return self._source.read(0, 0)
        first = int(numbers[0])
        return self._source.read(first, int(numbers[-1]) + 1)[numbers - first]


class _Shows:
    """Shows in a feature list, in files or in arrays; `sizes` has the number of frames of each."""

    def __init__(self, values: Any, features: Mapping[str, Any] | None, seed: int) -> None:
        listing = None
        if isinstance(values, str | os.PathLike):
            name = os.fspath(values)
        elif isinstance(values[0], np.ndarray):
            arrays = {
                str(number): checked_frames(array, f"show {number}")
                for number, array in enumerate(values)
            }
            self.sizes = {show: len(array) for show, array in arrays.items()}
            self._read: _Read = lambda names: ((name, arrays[name]) for name in names)
            return
        else:
            name = "the given files"
            places = [place_of(os.fspath(one)) if os.path.exists(one) else one for one in values]
            stems = [Path(one).stem for one in values]
            listing = Listing([*map(Entry, stems, map(os.fspath, places))], [])
        settings = FeatureSettings.from_mapping({**(features or {}), "list": name}, seed)
        shows = Shows(settings, listing)
        self.sizes = {
            show: sum(row.last - row.first for row in rows) for show, rows in shows.rows.items()
        }
        self._read = shows.read_and_warn

    def drawn(self, share: float, seed: int) -> set[str]:
        """Draw shows, in the order of their hashes, until they have this share of the frames."""
        shows = drawn(self.sizes, share, seed)
        if len(shows) == len(self.sizes):
            raise GmmcoreError(
                f"held_out: {share:g} of {len(shows)} shows are all of them; expected some to "
                "train on; lower it, or add shows"
            )
        return shows

    def joined(self, chosen: Container[str] | None = None) -> ArraySource:
        """Read the frames of all shows, or of some, in the order of the list."""
        return spooled(self._read([one for one in self.sizes if chosen is None or one in chosen]))


def spooled(shows: Iterable[tuple[str, npt.NDArray[np.generic]]]) -> ArraySource:
    """Join the frames of shows in a temporary file, with one show in memory at a time."""
    # The system keeps the file, which has no name, in memory as far as there is room.
    count = dimension = 0
    dtype: npt.DTypeLike = np.float64
    try:
        with tempfile.TemporaryFile(prefix="gmmcore-frames-") as stream:
            for show, values in shows:
                if not dimension and values.ndim == 2:
                    dimension = int(values.shape[1])
                    dtype = np.float32 if values.dtype == np.float32 else np.float64
                if values.ndim != 2 or values.shape[1] != dimension or not dimension:
                    raise GmmcoreError(
                        f"show {show}: frames of shape {values.shape}, (n, {dimension or 'D'}) was "
                        "expected; check the show's features"
                    )
                if not np.isfinite(values).all():
                    raise GmmcoreError(
                        f"show {show}: a frame holds a value that is not finite; fix or skip the "
                        "show"
                    )
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
