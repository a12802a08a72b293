"""Kaldi's archives: matrices in binary, compressed or text form, by offset or by key.

The size of a matrix is read from its header, without its frames, and compared with the size of
the file; then kaldiio (``pip install gmmcore[kaldi]``) decodes it. kaldiio would run commands and
unpickle objects that a file holds, so only matrices and vectors are passed on to it.
"""

from __future__ import annotations

import os
import re
import struct
from functools import partial
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gmmcore.files import check_regular, reason_of
from gmmcore.readers import base
from gmmcore.readers.base import Description, Place, need, quiet
from gmmcore.readers.faults import FaultyShowError, reading

__all__ = ["Source", "read_vector", "recognises"]

_BINARY = b"\0B"
_BEGINNING = re.compile(rb"[^\s\0]+ (?:\0B|\s*\[)|\0B|\s*\[")
_LONGEST_KEY = 4096
_LONGEST_LINE = 64 << 20
_reading = partial(
    reading,
    "a matrix as Kaldi writes it",
    "write the archive again, or correct its offset in the list",
)
# Kaldi accepts ranges that end a little late, where times were rounded to frames.
_TOLERANCE = 3


class _Matrix(NamedTuple):
    """Size of a stored matrix or vector, and where it begins and ends in the file."""

    rows: int
    columns: int
    begin: int
    end: int
    binary: bool


def recognises(head: bytes, size: int) -> bool:
    """Whether the file begins with a key and a matrix, or with a matrix alone."""
    return _BEGINNING.match(head) is not None


class Source(base.Source):
    """An opened archive."""

    def __init__(self, path: str, datasets: tuple[str, ...]) -> None:
        self._matio = need("kaldiio.matio", "kaldi")
        self._stream: IO[bytes] = open(path, "rb")  # noqa: SIM115
        self._size = os.fstat(self._stream.fileno()).st_size
        self._offsets: dict[str, int] | None = None

    def close(self) -> None:
        self._stream.close()

    @_reading()
    def describe(self, show: str, place: Place) -> Description:
        matrix = self._matrix(show, place)
        rows, columns = _ranges(place.rows, matrix)
        return Description(len(rows), len(columns), None)

    @_reading()
    @quiet()
    def read(self, show: str, place: Place, first: int, last: int) -> npt.NDArray[np.float32]:
        matrix = self._matrix(show, place)
        rows, columns = _ranges(place.rows, matrix)
        values = self._values(matrix).reshape(matrix.rows, matrix.columns)
        chosen = values[rows.start : rows.stop, columns.start : columns.stop][first:last]
        return np.array(chosen, dtype=np.float32, order="C")

    @_reading()
    def vector(self, place: Place) -> npt.NDArray[Any]:
        """A vector, such as the labels of a show."""
        matrix = self._matrix("", place)
        return self._values(matrix).reshape(-1)

    def _matrix(self, show: str, place: Place) -> _Matrix:
        offset = place.offset
        if offset is None:
            if self._offsets is None:
                self._offsets = self._index()
            offset = self._offsets.get(show, self._offsets.get("", -1))
        if not 0 <= offset < self._size:
            raise FaultyShowError(
                "the archive does not hold it",
                f"a matrix {'of key ' + show if place.offset is None else 'at this offset'}",
                "write the archive again, or correct the list",
            )
        return _matrix_at(self._stream, offset, self._size)

    def _values(self, matrix: _Matrix) -> npt.NDArray[Any]:
        self._stream.seek(matrix.begin)
        if not matrix.binary:
            text = self._stream.read(matrix.end - matrix.begin).strip().strip(b"[]")
            values = np.array(text.split(), dtype=np.float64)
        elif self._stream.read(3) == b"\0B\4":
            count = matrix.rows * matrix.columns
            packed = np.dtype([("size", "u1"), ("value", "<i4")])
            self._stream.seek(matrix.end - packed.itemsize * count)
            values = np.frombuffer(self._stream.read(packed.itemsize * count), packed)["value"]
        else:
            self._stream.seek(matrix.begin)
            values = np.asarray(self._matio.read_matrix_or_vector(self._stream))
        if values.size != matrix.rows * matrix.columns:
            raise ValueError(f"{values.size} values")
        return values

    def _index(self) -> dict[str, int]:
        """Offsets of all matrices by their keys; of one without a key, by the empty text."""
        offsets = {}
        self._stream.seek(0)
        if self._stream.read(2) == _BINARY:
            return {"": 0}
        position = 0
        while position < self._size:
            self._stream.seek(position)
            line = self._stream.read(_LONGEST_KEY)
            if not line.strip():
                break
            blank = len(line) - len(line.lstrip())
            key = line.lstrip().split(b" ", 1)[0]
            if len(key) + blank == len(line):
                raise ValueError("a key is missing")
            # A file of one matrix in text has no key.
            begin = position + blank + (0 if key.startswith(b"[") else len(key) + 1)
            offsets["" if key.startswith(b"[") else key.decode(errors="replace")] = begin
            position = _matrix_at(self._stream, begin, self._size).end
        return offsets


def read_vector(place: Place) -> npt.NDArray[Any]:
    """The vector at a place of an archive.

    Raises
    ------
    FaultyShowError
        If it is missing or damaged.
    """
    try:
        check_regular(place.file)
        source = Source(place.file, ())
    except (OSError, ValueError) as error:
        raise FaultyShowError(
            f"its labels in {place.file} cannot be read ({reason_of(error)})",
            "a Kaldi vector",
            "correct the vad.scp",
        ) from None
    try:
        return source.vector(place if place.offset is not None else place._replace(offset=0))
    finally:
        source.close()


def _matrix_at(stream: IO[bytes], offset: int, size: int) -> _Matrix:
    stream.seek(offset)
    head = stream.read(64)
    if not head.startswith(_BINARY):
        return _text_at(stream, offset)
    try:
        rows, columns, header, length = _binary_size(head[2:])
    except struct.error:
        raise ValueError("it ends in a header") from None
    end = offset + 2 + header + length
    if rows < 0 or columns < 0 or end > size:
        raise ValueError(f"{rows} x {columns} values do not fit a file of {size} bytes")
    return _Matrix(rows, columns, offset, end, True)


def _binary_size(head: bytes) -> tuple[int, int, int, int]:
    """Rows, columns, bytes of the header after the first two, bytes of the content."""
    if head[:1] == b"\4":
        (count,) = struct.unpack_from("<i", head, 1)
        return count, 1, 5, 5 * count
    token = head.split(b" ", 1)[0]
    at = len(token) + 1
    if token in (b"FM", b"DM"):
        rows, columns = struct.unpack_from("<xixi", head, at)
        return rows, columns, at + 10, rows * columns * (4 if token == b"FM" else 8)
    if token in (b"FV", b"DV"):
        (count,) = struct.unpack_from("<xi", head, at)
        return count, 1, at + 5, count * (4 if token == b"FV" else 8)
    if token in (b"CM", b"CM2", b"CM3"):
        rows, columns = struct.unpack_from("<8xii", head, at)
        content = rows * columns * (2 if token == b"CM2" else 1)
        return rows, columns, at + 16, content + (8 * columns if token == b"CM" else 0)
    raise ValueError("an object that is neither matrix nor vector")


def _text_at(stream: IO[bytes], offset: int) -> _Matrix:
    """Size of a matrix in text: numbers between brackets, one row per line."""
    stream.seek(offset)
    rows = columns = 0
    opened = False
    while True:
        line = stream.readline(_LONGEST_LINE)
        if len(line) == _LONGEST_LINE:
            raise ValueError(f"a line of {_LONGEST_LINE} bytes or more")
        words = line.split()
        if not opened and words:
            if words[0] != b"[":
                raise ValueError("no bracket begins the matrix")
            opened = True
            words = words[1:]
        closed = words[-1:] == [b"]"]
        words = words[:-1] if closed else words
        if words:
            if columns and len(words) != columns:
                raise ValueError(f"rows of {columns} and of {len(words)} values")
            rows, columns = rows + 1, len(words)
        if closed:
            return _Matrix(rows, columns, offset, stream.tell(), False)
        if not line:
            raise ValueError("no bracket ends the matrix")


def _ranges(text: str, matrix: _Matrix) -> tuple[range, range]:
    """Rows and columns of Kaldi's ``first:last,first:last``, both ends included."""
    rows, columns = range(matrix.rows), range(matrix.columns)
    parts = text.split(",") if text else []
    if len(parts) > 2:
        raise _bad_range(text, matrix)
    for i, part in enumerate(parts):
        whole = (rows, columns)[i]
        if part.strip() in ("", ":"):
            continue
        match = re.fullmatch(r"\s*(\d{1,9})\s*:\s*(\d{1,9})\s*", part)
        if match is None:
            raise _bad_range(text, matrix)
        first, last = int(match[1]), int(match[2])
        tolerance = _TOLERANCE if i == 0 else 0
        if first > last or first >= len(whole) or last >= len(whole) + tolerance:
            raise _bad_range(text, matrix)
        chosen = range(first, min(last + 1, len(whole)))
        rows, columns = (chosen, columns) if i == 0 else (rows, chosen)
    return rows, columns


def _bad_range(text: str, matrix: _Matrix) -> FaultyShowError:
    return FaultyShowError(
        f"the range [{text}]",
        f"[first:last] within its {matrix.rows} rows and {matrix.columns} columns",
        "correct the list",
    )
