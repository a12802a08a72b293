"""Shards without frames, for those short of disk: shows are processed whenever they are read."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from gmmcore.errors import GmmcoreError
from gmmcore.features.faults import FaultyShowError
from gmmcore.features.moments import Moments
from gmmcore.features.settings import FeatureSettings
from gmmcore.features.shards import (
    BLOCK_FRAMES,
    HEADER_SIZE,
    Shard,
    block_checksum,
    finish_file,
    read_facts,
)
from gmmcore.features.shows import ShowReader
from gmmcore.features.table import Row
from gmmcore.files import PathLike

__all__ = ["RecipeWriter", "UnpackedShard", "open_shard"]

Frames = npt.NDArray[np.float32]


class RecipeWriter:
    """Writes, instead of frames, which shows to process and the checksums of their frames.

    Parameters
    ----------
    stream : binary file
        At its beginning.
    dimension : int
    settings : FeatureSettings
    """

    def __init__(self, stream: IO[bytes], dimension: int, settings: FeatureSettings) -> None:
        self._stream = stream
        self._dimension = dimension
        self._settings = settings
        self._shows: list[list[Any]] = []
        self._moments = Moments.none(dimension)
        stream.write(b"\0" * HEADER_SIZE)

    def add(self, row: Row, frames: Frames) -> None:
        """Take note of a show and its processed frames (n, D)."""
        self._moments = self._moments + Moments.of(frames)
        self._shows.append([[*row], len(frames), block_checksum(frames)])

    def finish(self, facts: dict[str, Any]) -> None:
        """Write the facts."""
        own = {
            "packed": False,
            "frames": self._moments.count,
            "dimension": self._dimension,
            "moments": self._moments.facts(),
            "settings": self._settings.as_mapping(),
            "recipes": self._shows,
        }
        finish_file(self._stream, {**facts, **own}, 0)


class UnpackedShard:
    """A shard whose frames are processed while it is read; the same face as `Shard`.

    Every show is compared with the checksum of the frames it had when the shard was made.
    One show is kept in memory. May be read by several threads, which take turns.
    """

    block_frames = BLOCK_FRAMES

    def __init__(self, path: PathLike) -> None:
        self.path = str(path)
        self.facts, _ = read_facts(path)
        self.frames: int = self.facts["frames"]
        self.dimension: int = self.facts["dimension"]
        self.digest: str = self.facts["digest"]
        self.moments = Moments.from_facts(self.facts["moments"])
        self._shows = [(Row(*row), n, checksum) for row, n, checksum in self.facts["recipes"]]
        self._ends = np.cumsum([n for _, n, _ in self._shows], dtype=np.int64).tolist()
        self._reader = ShowReader(FeatureSettings.from_mapping(self.facts["settings"]))
        self._kept: tuple[int, Frames] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> UnpackedShard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self.frames

    def close(self) -> None:
        """Close the feature files."""
        self._reader.close()

    def blocks(self) -> Iterator[Frames]:
        """All frames, in blocks (n, D) of at most `block_frames`."""
        for start in range(0, self.frames, self.block_frames):
            yield self.read(start, min(start + self.block_frames, self.frames))

    def read(self, start: int, stop: int) -> Frames:
        """Frames start <= i < stop, shape (stop - start, D), float32.

        Raises
        ------
        GmmcoreError
            If a show is no longer what it was.
        """
        if not 0 <= start <= stop <= self.frames:
            raise IndexError(f"frames {start} to {stop} of {self.frames}")
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
                raise GmmcoreError(
                    f"show {row.show} ({row.path}): its frames changed since {self.path} was made; "
                    "expected the same; give the same command again"
                )
            self._kept = (i, frames)
        return self._kept[1]


def open_shard(path: PathLike) -> Shard | UnpackedShard:
    """Open a shard file, whether it holds its frames or only how to make them.

    Raises
    ------
    DamagedFileError
        If it is not what was written.
    """
    return Shard(path) if read_facts(path)[0]["packed"] else UnpackedShard(path)
