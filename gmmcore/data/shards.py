"""Shard files of processed frames, which are written once and verified by every read.

A shard is a ``.npy`` file (float32, shape (frames, D)) for NumPy, also with ``mmap_mode``. The
frames begin at byte 1024, the smallest random subset first. After the frames come a line of JSON
facts, with a checksum of each block of 4096 frames, and a footer of 128 bytes with the size and
SHA-256 of the facts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from functools import lru_cache
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from gmmcore.config.keys import FeatureSettings
from gmmcore.core.moments import Moments
from gmmcore.core.schedule import LARGEST_LEVEL, frame_levels
from gmmcore.data.check import recipe_digests
from gmmcore.data.readers import Fault, FaultyShowError, Frames, report
from gmmcore.data.shows import ShowReader, ShowTable, changed_show
from gmmcore.errors import DamagedFileError, GmmcoreError
from gmmcore.files import PathLike, digest_of, writing

BLOCK_FRAMES = 4096
_HEADER = 1024
_FOOTER = 128
_KIND = b"gmmcore shard 3"
_LAST = re.compile(_KIND + rb" sha256:(?P<sha256>\w{64}) bytes:(?P<bytes>\d{1,18}) *\n")
_ODD = 0x9E3779B97F4A7C15
_AHEAD = 8  # Blocks that the system reads ahead while a block is processed.


def block_checksum(frames: Frames) -> str:
    """Compute the checksum of a block of frames (n, D), 16 hexadecimal digits."""
    # The sum of w_i k_i modulo 2^64 over 64-bit words w_i, with odd k_i: a change within a word
    # always alters it, others nearly always. It is as fast as memory, so that every read checks.
    data = np.ascontiguousarray(frames, dtype="<f4").reshape(-1)
    if data.size % 2:
        data = np.append(data, np.float32(0))
    words = data.view("<u8")
    weights = _weights(1 << int(words.size).bit_length())[: words.size]
    # The sum wraps around without a warning, as intended.
    return f"{int(np.einsum('i,i->', words, weights)):016x}"


@lru_cache(maxsize=4)
def _weights(count: int) -> npt.NDArray[np.uint64]:
    index = np.arange(count, dtype=np.uint64)
    return np.asarray((index * np.uint64(_ODD)) | np.uint64(1))


class ShardWriter:
    """Writes the frames of a shard; those of high levels come first in the file."""

    def __init__(self, stream: IO[bytes], dimension: int) -> None:
        self._stream, self._dimension = stream, dimension
        self._moments = Moments.none(dimension)
        self._frames, self._levels = list[Frames](), list[npt.NDArray[np.intp]]()
        self._shows: list[str] = []

    def add(
        self, frames: Frames, levels: npt.NDArray[np.intp] | None = None, show: str = ""
    ) -> None:
        """Add the processed frames (n, D) of a show, with their levels (n,), 0 by default."""
        self._moments = self._moments + Moments.of(frames)
        self._frames.append(frames.astype("<f4", copy=False))
        self._levels.append(np.zeros(len(frames), dtype=np.intp) if levels is None else levels)
        self._shows += [show] * len(frames)

    def finish(self, facts: dict[str, Any]) -> None:
        """Write the header, the frames, the facts, and the footer."""
        count, dimension = int(self._moments.count), self._dimension
        frames = np.concatenate([np.empty((0, dimension), dtype="<f4"), *self._frames])
        levels = np.concatenate([np.empty(0, dtype=np.intp), *self._levels])
        self._frames.clear()
        order = np.argsort(-levels, kind="stable")  # The frames of a level keep their order.
        self._stream.write(_header(count, dimension))
        checksums = []
        for start in range(0, count, BLOCK_FRAMES):
            block = frames[order[start : start + BLOCK_FRAMES]]
            checksums.append(block_checksum(block))
            self._stream.write(block.data)
        # The frames with the lowest and the highest value of each coefficient.
        farthest = [frames.argmin(axis=0), frames.argmax(axis=0)] if count else []
        facts = {
            **facts,
            "frames": count,
            "subsets": [int((levels >= level).sum()) for level in range(LARGEST_LEVEL + 1)],
            "dimension": dimension,
            "moments": self._moments.facts(),
            "ends": [frames[each, range(dimension)].tolist() for each in farthest],
            "shows_of_ends": [[self._shows[index] for index in each] for each in farthest],
            "checksums": checksums,
            "content_digest": digest_of(count, dimension, BLOCK_FRAMES, checksums),
        }
        trailer = json.dumps(facts, sort_keys=True, allow_nan=False).encode() + b"\n"
        digest = hashlib.sha256(trailer).hexdigest().encode()
        footer = b"%s sha256:%s bytes:%d" % (_KIND, digest, len(trailer))
        self._stream.write(trailer + footer.ljust(_FOOTER - 1) + b"\n")


def _header(frames: int, dimension: int) -> bytes:
    """Return the header of a ``.npy`` file, version 1.0, padded to 1024 bytes."""
    start = b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little")
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({frames}, {dimension}), }}"
    return start + text.encode().ljust(_HEADER - 11) + b"\n"


def read_facts(path: PathLike) -> dict[str, Any]:
    """Read and verify the facts of a shard without its frames."""
    try:
        with open(path, "rb") as stream:
            end = stream.seek(0, os.SEEK_END) - _FOOTER
            stream.seek(max(end, 0))
            found = _LAST.fullmatch(stream.read(_FOOTER))
            begin = -1 if found is None else end - int(found["bytes"])
            if found is None or begin < _HEADER:
                raise _damaged(path, "its end is missing")
            stream.seek(begin)
            trailer = stream.read(end - begin)
            if hashlib.sha256(trailer).hexdigest().encode() != found["sha256"]:
                raise _damaged(path, "its facts do not match their checksum")
            facts: dict[str, Any] = json.loads(trailer)
            frames, dimension = facts["frames"], facts["dimension"]
            stream.seek(0)
            header = stream.read(_HEADER)
            if begin != _HEADER + 4 * frames * dimension or header != _header(frames, dimension):
                raise _damaged(path, "its header or size is not what was written")
            return facts
    except OSError as error:
        raise GmmcoreError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, IndexError):
        raise _damaged(path, "its end is not what was written") from None


class Shard(AbstractContextManager["Shard"]):
    """A shard file open for reading, by several threads at a time; all frames are verified."""

    def __init__(self, path: PathLike) -> None:
        self.path = os.fspath(path)
        self.facts = read_facts(path)
        self.frames: int = self.facts["frames"]
        self.dimension: int = self.facts["dimension"]
        # Frames of the random subset of each level, at the beginning of the shard.
        self.subsets: list[int] = self.facts["subsets"]
        self.content_digest: str = self.facts["content_digest"]
        self.moments = Moments.from_facts(self.facts["moments"])
        # Shows that were left out.
        self.faults = [Fault(**fault) for fault in self.facts["faults"]]
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:  # Too many open files, for example.
            raise GmmcoreError(f"{path}: cannot be read: {error.strerror}") from error
        self.close = weakref.finalize(self, os.close, self._file)
        self._kept = threading.local()  # The latest block of each thread.

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, start: int, stop: int) -> Frames:
        """Read and verify the frames start <= i < stop, shape (stop - start, D), read-only."""
        if not 0 <= start <= stop <= self.frames:
            raise IndexError(f"frames {start} to {stop} of {self.frames}")
        if start == stop:
            return np.empty((0, self.dimension), dtype=np.float32)
        first, last = start // BLOCK_FRAMES, (stop - 1) // BLOCK_FRAMES
        parts = [self._block(i) for i in range(first, last + 1)]
        parts[-1] = parts[-1][: stop - last * BLOCK_FRAMES]
        parts[0] = parts[0][start - first * BLOCK_FRAMES :]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def blocks(self, size: int = BLOCK_FRAMES) -> Iterator[Frames]:
        """Yield all frames in blocks (n, D) of at most `size` frames."""
        for start in range(0, self.frames, size):
            yield self.read(start, min(start + size, self.frames))

    def _block(self, index: int) -> Frames:
        if getattr(self._kept, "index", None) != index:
            begin = index * BLOCK_FRAMES
            count = min(BLOCK_FRAMES, self.frames - begin)
            # A mapped file that shrinks would kill the process.
            frames = np.empty((count, self.dimension), dtype="<f4")
            self._fill(frames, begin)
            if block_checksum(frames) != self.facts["checksums"][index]:
                raise _damaged(self.path, f"frames {begin} to {begin + count} were altered")
            frames.flags.writeable = False
            self._kept.index, self._kept.frames = index, frames
        block: Frames = self._kept.frames
        return block

    def _fill(self, frames: Frames, begin: int) -> None:
        view = memoryview(frames.data).cast("B")
        position = _HEADER + 4 * begin * self.dimension
        while view:
            try:
                count = os.preadv(self._file, [view], position)
            except OSError as error:
                raise GmmcoreError(f"{self.path}: cannot be read: {error.strerror}") from error
            if not count:
                raise _damaged(self.path, "it became shorter")
            view = view[count:]
            position += count
        if hasattr(os, "posix_fadvise"):  # macOS has no such call.
            ahead = _AHEAD * BLOCK_FRAMES * 4 * self.dimension
            os.posix_fadvise(self._file, position, ahead, os.POSIX_FADV_WILLNEED)


def _damaged(path: PathLike, reason: str) -> DamagedFileError:
    return DamagedFileError(path, f"damaged: {reason}")


def pack_shard(
    settings: FeatureSettings, table: PathLike, shard: str, output: PathLike
) -> tuple[dict[str, Any], bool]:
    """Write a shard unless it is intact; return its facts, and whether it was written."""
    content = ShowTable.read(table)
    if shard not in content.shards:
        raise GmmcoreError(
            f"{table}: no shard {shard!r}; expected {content.shards[0]} to {content.shards[-1]}; "
            "correct --shard"
        )
    settings = replace(settings, vad=content.facts["vad"])
    rows = [row for row in content.rows if row.shard == shard]
    dimension = int(content.facts["dimension"])
    digest = content.facts["recipe_digests"][shard]
    if (known := _intact(output, digest)) is not None:
        return known, False
    # Shows whose frames have faults are left out; one that changed since the check is an error.
    faults, changed = list[Fault](), list[Fault]()
    with writing(output) as stream, ShowReader(settings) as reader:
        writer = ShardWriter(stream, dimension)
        for row in rows:
            try:
                frames = reader.frames(row)
                if frames.shape[1] != dimension:
                    what = f"{frames.shape[1]} coefficients after processing"
                    raise changed_show(what, str(dimension))
                key = f"{row.show} {row.first}"
                writer.add(frames, frame_levels(settings.seed, key, len(frames)), row.show)
            except FaultyShowError as error:
                (changed if error.changed else faults).append(error.fault(row.show, row.path))
        if changed:
            raise GmmcoreError(report(changed, f"{table}: changed since the list was checked"))
        found = recipe_digests([shard], rows, settings, dimension, reader.label_source)
        if found[shard] != digest:
            raise GmmcoreError(
                f"{output}: feature files of shard {shard} changed since {table} was made, or "
                "while they were read; give the same command again, once they stay as they are"
            )
        facts = {"shard": shard, "recipe_digest": digest, "shows": len(rows) - len(faults)}
        writer.finish({**facts, "faults": [asdict(fault) for fault in faults]})
    return read_facts(output), True


def _intact(path: PathLike, digest: str) -> dict[str, Any] | None:
    """Verify all frames of a shard file and return its facts; None without the right shard."""
    with contextlib.suppress(GmmcoreError), Shard(path) as shard:
        if shard.facts["recipe_digest"] == digest:
            for _ in shard.blocks():
                pass  # Every read verifies its frames.
            return shard.facts
    return None
