"""HTK parameter files: one show per file, also compressed (_C) or with a checksum (_K).

HTK writes big-endian, other programs also little-endian. Checksums are not verified, because HTK's
book does not define them.
"""

from __future__ import annotations

import os
from typing import IO

import numpy as np

from gmmcore.data import readers
from gmmcore.data.readers import Description, FaultyShowError, Frames
from gmmcore.data.readers.recognition import HTK_HEADER, htk_header

_COMPRESSED = 0o2000
_WAVEFORM, _IREFC, _DISCRETE = 0, 5, 10
_SCALES = 4  # The scales and offsets of a compressed file count as four frames.


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
        size = os.fstat(self._stream.fileno()).st_size
        found = htk_header(self._stream.read(HTK_HEADER), size)
        if found is None:
            raise _truncated(size, HTK_HEADER)
        base = found.kind & 0o77
        if base in (_WAVEFORM, _DISCRETE):
            raise FaultyShowError(
                "a waveform or discrete symbols", "feature vectors", "convert it with HCopy"
            )
        self._compressed = bool(found.kind & _COMPRESSED)
        # IREFC alone has 16 bits without compression, in units of 1/32767.
        self._fixed = base == _IREFC and not self._compressed
        short = self._compressed or self._fixed
        self._dtype = np.dtype(f"{found.order}{'i2' if short else 'f4'}")
        if found.width % self._dtype.itemsize:
            wanted = f"a multiple of {self._dtype.itemsize}"
            raise FaultyShowError(f"{found.width} bytes per frame", wanted, "write it again")
        if size != found.end:
            raise _truncated(size, found.end)
        self._dimension = found.width // self._dtype.itemsize
        self._frames = found.frames - (_SCALES if self._compressed else 0)
        self._start = HTK_HEADER
        if self._compressed:
            if self._frames < 0:
                raise _truncated(found.frames, _SCALES)
            scales = self._stream.read(8 * self._dimension)
            self._start += len(scales)
            numbers = np.frombuffer(scales, f"{found.order}f4")
            self._scales = numbers.reshape(2, -1).astype(np.float64)

    def close(self) -> None:
        self._stream.close()

    def whole(self, show: str, offset: int | None) -> Description:
        return Description(self._frames, self._dimension, None)

    @readers.reading()
    def rows(self, show: str, offset: int | None, first: int, last: int) -> Frames:
        width = self._dimension * self._dtype.itemsize
        self._stream.seek(self._start + first * width)
        size = (last - first) * width
        data = self._stream.read(size)
        if len(data) != size:
            raise _truncated(len(data), size)
        frames = np.frombuffer(data, self._dtype).reshape(-1, self._dimension)
        if self._compressed:
            scale, bias = self._scales
            return np.asarray((frames + bias) / scale, dtype=np.float32)
        if self._fixed:
            return np.asarray(frames / 32767.0, dtype=np.float32)
        return frames.astype(np.float32)


def _truncated(found: int, expected: int) -> FaultyShowError:
    return FaultyShowError(
        f"truncated or damaged: {found} bytes", f"{expected}, by its header", "extract it again"
    )
