"""HTK parameter files: big-endian, one show per file, also compressed (_C) or with checksum (_K).

The header has int32 frames, int32 period in 100 ns, int16 bytes per frame, and int16 kind. The
lower 6 bits of the kind are the type of the parameters; the other bits are qualifiers. Checksums
are not verified, because HTK's book does not define them.
"""

from __future__ import annotations

import os
import struct
from typing import IO

import numpy as np

from gmmcore.data import readers
from gmmcore.data.readers import Description, FaultyShowError, Frames, Place

_HEADER = struct.Struct(">iihH")
_COMPRESSED = 0o2000
_CHECKSUM = 0o10000
_WAVEFORM, _IREFC, _DISCRETE, _LAST_KIND = 0, 5, 10, 12
_LONGEST_PERIOD = 100_000_000
_SCALES = 4  # The scales and offsets of a compressed file count as four frames.


def recognises(head: bytes, size: int) -> bool:
    """Whether a file begins with a plausible HTK header."""
    if len(head) < _HEADER.size:
        return False
    frames, period, width, kind = _HEADER.unpack(head[: _HEADER.size])
    return (
        frames >= 0
        and 0 < period <= _LONGEST_PERIOD
        and width > 0
        and width % 2 == 0
        and kind & 0o77 <= _LAST_KIND
    )


class Source(readers.Source):
    """An opened HTK parameter file."""

    def __init__(self, path: str, datasets: tuple[str, ...]) -> None:
        self._stream: IO[bytes] = open(path, "rb")  # noqa: SIM115
        try:
            self._parse()
        except FaultyShowError:
            self._stream.close()
            raise

    def _parse(self) -> None:
        head = self._stream.read(_HEADER.size)
        size = os.fstat(self._stream.fileno()).st_size
        if len(head) < _HEADER.size:
            raise _truncated(size, _HEADER.size)
        frames, _, width, kind = _HEADER.unpack(head)
        base = kind & 0o77
        if base in (_WAVEFORM, _DISCRETE):
            raise FaultyShowError(
                "a waveform or discrete symbols", "feature vectors", "convert it with HCopy"
            )
        self._compressed = bool(kind & _COMPRESSED)
        # IREFC alone has 16 bits without compression, in units of 1/32767.
        self._fixed = base == _IREFC and not self._compressed
        short = self._compressed or self._fixed
        self._dtype = np.dtype(">i2" if short else ">f4")
        if width % self._dtype.itemsize:
            raise FaultyShowError(
                f"{width} bytes per frame",
                f"a multiple of {self._dtype.itemsize}",
                "write it again",
            )
        expected = _HEADER.size + frames * width + (2 if kind & _CHECKSUM else 0)
        if size != expected:
            raise _truncated(size, expected)
        self._dimension = width // self._dtype.itemsize
        self._frames = frames - (_SCALES if self._compressed else 0)
        self._start = _HEADER.size
        if self._compressed:
            if self._frames < 0:
                raise _truncated(frames, _SCALES)
            scales = self._stream.read(8 * self._dimension)
            self._start += len(scales)
            self._scales = np.frombuffer(scales, ">f4").reshape(2, -1).astype(np.float64)

    def close(self) -> None:
        self._stream.close()

    def describe(self, show: str, place: Place) -> Description:
        return Description(self._frames, self._dimension, None)

    @readers.reading()
    def read(self, show: str, place: Place, first: int, last: int) -> Frames:
        width = self._dimension * self._dtype.itemsize
        self._stream.seek(self._start + first * width)
        data = self._stream.read((last - first) * width)
        if len(data) != (last - first) * width:
            raise _truncated(len(data), (last - first) * width)
        frames = np.frombuffer(data, self._dtype).reshape(-1, self._dimension)
        if self._compressed:
            scale, offset = self._scales
            return np.asarray((frames + offset) / scale, dtype=np.float32)
        if self._fixed:
            return np.asarray(frames / 32767.0, dtype=np.float32)
        return frames.astype(np.float32)


def _truncated(found: int, expected: int) -> FaultyShowError:
    return FaultyShowError(
        f"truncated or damaged: {found} bytes", f"{expected}, by its header", "extract it again"
    )
