"""Shards without frames, to save disk space: shows are processed whenever they are read."""

from __future__ import annotations

import threading
from bisect import bisect_right
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from gmmcore.corpus.shards import (
    HEADER_SIZE,
    BlockSums,
    PackedShard,
    Shard,
    block_checksum,
    finish_file,
    read_facts,
)
from gmmcore.corpus.shows import ShowReader
from gmmcore.corpus.table import Row
from gmmcore.errors import DamagedFileError, GmmcoreError
from gmmcore.features.settings import FeatureSettings
from gmmcore.files import REMEDY, PathLike
from gmmcore.options import mapping
from gmmcore.readers.faults import FaultyShowError

__all__ = ["RecipeWriter", "UnpackedShard", "open_shard"]

Frames = npt.NDArray[np.float32]


class RecipeWriter:
    """Writes a shard with its shows and the checksums of their frames, but without the frames.

    Parameters
    ----------
    stream : binary file
        File open at its beginning.
    dimension : int
    settings : FeatureSettings
    """

    def __init__(self, stream: IO[bytes], dimension: int, settings: FeatureSettings) -> None:
        self._stream = stream
        self._settings = settings
        self._sums = BlockSums(dimension)
        self._shows: list[list[Any]] = []
        stream.write(b"\0" * HEADER_SIZE)

    def add(self, row: Row, frames: Frames) -> None:
        """Add a show and the checksum of its processed frames (n, D)."""
        self._sums.add(frames)
        self._shows.append([[*row], len(frames), block_checksum(frames)])

    def finish(self, facts: dict[str, Any]) -> None:
        """Write the facts, the footer and the header."""
        own = {
            **self._sums.finish(),
            "packed": False,
            "settings": mapping(self._settings),
            "recipes": self._shows,
        }
        finish_file(self._stream, {**facts, **own}, 0)


class UnpackedShard(Shard):
    """Shard whose frames are processed while it is read.

    The frames of every show are verified with the checksum that they had when the shard was made.
    One show is kept in memory. Several threads may read the shard, but only one at a time.
    """

    def __init__(self, path: PathLike) -> None:
        super().__init__(path)
        self._shows = [(Row(*row), n, checksum) for row, n, checksum in self.facts["recipes"]]
        self._ends = np.cumsum([n for _, n, _ in self._shows], dtype=np.int64).tolist()
        self._reader = ShowReader(FeatureSettings.from_mapping(self.facts["settings"]))
        self._kept: tuple[int, Frames] | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        self._reader.close()

    def read(self, start: int, stop: int) -> Frames:
        self._check_range(start, stop)
        result = np.empty((stop - start, self.dimension), dtype=np.float32)
        done = start
        with self._lock:
            while done < stop:
                i = bisect_right(self._ends, done)
                begin = self._ends[i] - self._shows[i][1]
                part = self._show(i)[done - begin : stop - begin]
                result[done - start : done - start + len(part)] = part
                done += len(part)
        return result

    def _show(self, i: int) -> Frames:
        if self._kept is None or self._kept[0] != i:
            row, count, checksum = self._shows[i]
            self._kept = None
            try:
                frames = self._reader.frames(row)
            except FaultyShowError as error:
                raise GmmcoreError(error.fault(row.show, row.path).line()) from None
            if frames.shape != (count, self.dimension) or block_checksum(frames) != checksum:
                raise DamagedFileError(
                    f"{self.path}: the frames of show {row.show} ({row.path}) changed since this "
                    f"was made; {REMEDY}"
                )
            self._kept = (i, frames)
        return self._kept[1]


def open_shard(path: PathLike) -> Shard:
    """Open a shard file, with or without frames.

    Raises
    ------
    DamagedFileError
        If the file was truncated or altered.
    """
    packed = read_facts(path)[0]["packed"]
    return PackedShard(path) if packed else UnpackedShard(path)
