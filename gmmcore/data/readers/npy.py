"""NumPy's files: ``.npy`` with one show, or ``.npz`` with several shows.

In an ``.npz``, the frames of a show are the array with the name of the show, or ``features``, or
the only array. The labels are the array ``<show>.vad`` or ``vad``.
"""

from __future__ import annotations

import math
import os
import re
import warnings
import zipfile
from functools import partial
from typing import IO

import numpy as np
import numpy.typing as npt

from gmmcore.data import readers
from gmmcore.data.readers import Description, FaultyShowError, Frames

_ZIP = b"PK"
_reading = partial(readers.reading, "a whole .npy or .npz file", "write it again")
_LARGEST_RATIO = 1100  # Deflate compresses at most 1032:1.


class Source(readers.Source):
    """An opened ``.npy`` or ``.npz`` file."""

    @_reading()
    def __init__(self, path: str, datasets: tuple[str, ...]) -> None:
        self._path = path
        with open(path, "rb") as stream:
            is_zip = stream.read(len(_ZIP)) == _ZIP
        self._archive = zipfile.ZipFile(path) if is_zip else None

    def close(self) -> None:
        if self._archive is not None:
            self._archive.close()

    @_reading()
    def whole(self, show: str, offset: int | None) -> Description:
        labels = self._label_member(show)
        count = None if labels is None else int(np.prod(self._header(labels)[0]))
        frames, dimension = self._shape(show)
        return Description(frames, dimension, count)

    @_reading()
    def rows(self, show: str, offset: int | None, first: int, last: int) -> Frames:
        frames, dimension = self._shape(show)
        array = self._member(self._frames_member(show))
        return np.array(array.reshape(frames, dimension)[first:last], np.float32, order="C")

    @_reading()
    def row_labels(self, show: str) -> npt.NDArray[np.generic] | None:
        member = self._label_member(show)
        return None if member is None else self._member(member)

    def _shape(self, show: str) -> tuple[int, int]:
        shape, dtype = self._header(self._frames_member(show))
        if dtype.kind not in "fiub" or len(shape) not in (1, 2):
            found = f"an array of shape {shape} and type {dtype}"
            raise FaultyShowError(found, "numbers of shape (frames, dimension)", "write it again")
        return shape[0], shape[1] if len(shape) == 2 else 1

    def _frames_member(self, show: str) -> str:
        if self._archive is None:
            return self._path
        names = set(self._archive.namelist())
        for name in (show, "features"):
            if name + ".npy" in names:
                return name + ".npy"
        arrays = [name for name in names if not re.search(r"(^|\.)vad\.npy$", name)]
        if len(arrays) == 1:
            return arrays[0]  # The one show of a file is meant, whatever its name.
        raise FaultyShowError(
            "no array of this show", f"an array named {show} or features", "write it again"
        )

    def _label_member(self, show: str) -> str | None:
        names = set() if self._archive is None else set(self._archive.namelist())
        return next((n for n in (f"{show}.vad.npy", "vad.npy") if n in names), None)

    def _header(self, member: str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
        if self._archive is None:
            with open(self._path, "rb") as stream:
                return _read_header(stream, os.fstat(stream.fileno()).st_size)
        entry = self._archive.getinfo(member)
        if entry.file_size > _LARGEST_RATIO * entry.compress_size:
            raise ValueError(f"{entry.compress_size} bytes that claim to be {entry.file_size}")
        with self._archive.open(member) as packed:
            return _read_header(packed, entry.file_size)

    def _member(self, member: str) -> npt.NDArray[np.generic]:
        if self._archive is None:
            return np.load(member, mmap_mode="r", allow_pickle=False)
        self._header(member)  # It bounds the memory.
        with self._archive.open(member) as packed:
            return np.lib.format.read_array(packed, allow_pickle=False)


def _read_header(stream: IO[bytes], size: int) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Read the shape and type of an array, which must fit the `size` of the file in bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version in ((2, 0), (3, 0)):  # Version 3.0 differs in the names of fields alone.
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"version {version} of the format")
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    count = math.prod(shape)
    if count < 0 or stream.tell() + count * dtype.itemsize != size:
        raise ValueError(f"{size} bytes where shape {shape} needs another number")
    return shape, dtype
