"""Kaldi's archives: matrices in binary, compressed or text form, by offset or by key.

The header of a matrix tells its size without its frames, and must fit the size of the file.
"""

from __future__ import annotations

import os
import struct
from functools import partial
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gmmcore.data import readers
from gmmcore.data.readers import Description, FaultyShowError, Frames

_BINARY = b"\0B"
# The header after the name of each kind of matrix, and the type of the values.
_LAYOUTS: dict[bytes, tuple[str, Any]] = {
    b"FM": ("<xixi", "<f4"),
    b"DM": ("<xixi", "<f8"),
    b"FV": ("<xi", "<f4"),
    b"DV": ("<xi", "<f8"),
    b"CM": ("<8xii", "u1"),
    b"CM2": ("<8xii", "<u2"),
    b"CM3": ("<8xii", "u1"),
    b"integers": ("<xi", [("size", "u1"), ("value", "<i4")]),
}
_LONGEST_KEY = 4096
_LONGEST_LINE = 64 << 20
_reading = partial(
    readers.reading,
    "a matrix as Kaldi writes it",
    "write the archive again, or correct its offset in the list",
)


class _Matrix(NamedTuple):
    """Kind (a key of `_LAYOUTS`, or ``text``), size and bytes of a matrix or vector in the file."""

    kind: bytes
    rows: int
    columns: int
    begin: int
    end: int


class Source(readers.Source):
    """An opened archive."""

    has_offsets = True

    def __init__(self, path: str, datasets: tuple[str, ...]) -> None:
        self._stream: IO[bytes] = open(path, "rb")  # noqa: SIM115
        self._size = os.fstat(self._stream.fileno()).st_size
        self._offsets: dict[str, int] | None = None

    def close(self) -> None:
        self._stream.close()

    @_reading()
    def whole(self, show: str, offset: int | None) -> Description:
        matrix = self._matrix(show, offset)
        return Description(matrix.rows, matrix.columns, None)

    @_reading()
    def rows(self, show: str, offset: int | None, first: int, last: int) -> Frames:
        values = self._values(self._matrix(show, offset))
        return np.array(values[first:last], dtype=np.float32, order="C")

    def _matrix(self, show: str, given: int | None) -> _Matrix:
        offset = given
        if offset is None:
            if self._offsets is None:
                self._offsets = self._index()
            offset = self._offsets.get(show, self._offsets.get("", -1))
        if not 0 <= offset < self._size:
            wanted = f"a matrix {'of key ' + show if given is None else 'at this offset'}"
            remedy = "write the archive again, or correct the list"
            raise FaultyShowError("the archive does not hold it", wanted, remedy)
        return _matrix_at(self._stream, offset, self._size)

    def _values(self, matrix: _Matrix) -> npt.NDArray[Any]:
        self._stream.seek(matrix.begin)
        content = self._stream.read(matrix.end - matrix.begin)
        if matrix.kind.startswith(b"CM"):
            return _decompressed(matrix, content)
        values: npt.NDArray[Any]
        if matrix.kind == b"text":
            words = content.strip().strip(b"[]").replace(b";", b" ").split()
            values = np.array(words, dtype=np.float64)
        else:
            values = np.frombuffer(content, _LAYOUTS[matrix.kind][1])
            if matrix.kind == b"integers":
                values = values["value"]
        return values.reshape(matrix.rows, matrix.columns)

    def _index(self) -> dict[str, int]:
        """Find the offset of each matrix by its key, which is empty for a single matrix."""
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
            key = line.split(None, 1)[0]  # A space, a tab or the end of the line follows.
            if len(key) + blank == len(line):
                raise ValueError("a key is missing")
            # A single matrix in text has no key.
            begin = position + blank + (0 if key.startswith(b"[") else len(key) + 1)
            offsets["" if key.startswith(b"[") else key.decode(errors="replace")] = begin
            position = _matrix_at(self._stream, begin, self._size).end
        return offsets


def _matrix_at(stream: IO[bytes], offset: int, size: int) -> _Matrix:
    stream.seek(offset)
    head = stream.read(64)
    if not head.startswith(_BINARY):
        return _text_at(stream, offset)
    # Integers have no name; the size of an integer precedes each value.
    kind = b"integers" if head[2:3] == b"\4" else head[2:].split(b" ", 1)[0]
    if kind not in _LAYOUTS:
        found = f"Kaldi's object {readers.printable(kind.decode(errors='replace'))}"
        remedy = "copy it with copy-feats, or correct the list"
        raise FaultyShowError(found, "a matrix or a vector", remedy)
    header, dtype = _LAYOUTS[kind]
    at = 2 if kind == b"integers" else 3 + len(kind)
    try:
        rows, columns = (*struct.unpack_from(header, head, at), 1)[:2]
    except struct.error:
        raise ValueError("it ends in a header") from None
    begin = offset + at + struct.calcsize(header)
    end = begin + rows * columns * np.dtype(dtype).itemsize + (8 * columns if kind == b"CM" else 0)
    if rows < 0 or columns < 0 or end > size:
        raise ValueError(f"{rows} x {columns} values do not fit a file of {size} bytes")
    return _Matrix(kind, rows, columns, offset + at if kind.startswith(b"CM") else begin, end)


def _decompressed(matrix: _Matrix, content: bytes) -> npt.NDArray[np.float32]:
    """Compute the values of a compressed matrix in single precision, as Kaldi does."""
    least, extent = struct.unpack_from("<ff", content)

    def scaled(whole: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return least + whole.astype(np.float32) * extent / float(np.iinfo(whole.dtype).max)

    rows, columns = matrix.rows, matrix.columns
    if matrix.kind != b"CM":
        whole = np.frombuffer(content, _LAYOUTS[matrix.kind][1], offset=16)
        return scaled(whole).reshape(rows, columns)
    # A byte is a value between percentiles 0, 25, 75 and 100 of its column.
    percentiles = scaled(np.frombuffer(content, "<u2", 4 * columns, 16)).reshape(columns, 4)
    p0, p25, p75, p100 = percentiles.T
    byte = np.arange(256, dtype=np.float32)[:, np.newaxis]
    low = p0 + (p25 - p0) * byte * (1 / 64)
    middle = p25 + (p75 - p25) * (byte - 64) * (1 / 128)
    high = p75 + (p100 - p75) * (byte - 192) * (1 / 63)
    values = np.where(byte <= 64, low, np.where(byte <= 192, middle, high))
    places = np.frombuffer(content, "u1", offset=16 + 8 * columns).reshape(columns, rows).T
    return np.take_along_axis(values, places.astype(np.intp), axis=0)


def _text_at(stream: IO[bytes], offset: int) -> _Matrix:
    """Find size and end of a matrix in text: brackets around rows, which end with a line or ;."""
    stream.seek(offset)
    rows = columns = 0
    opened = closed = False
    while not closed:
        line = stream.readline(_LONGEST_LINE)
        if len(line) == _LONGEST_LINE:
            raise ValueError(f"a line of {_LONGEST_LINE} bytes or more")
        if not line:
            raise ValueError("no bracket ends the matrix")
        for part in line.split(b";"):
            words = part.split()
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
    return _Matrix(b"text", rows, columns, offset, stream.tell())
