"""corpus.json: the frames that a run trains on, shard by shard, and their moments."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gmmcore.core.moments import Moments, merge_moments
from gmmcore.data.check import shard_paths
from gmmcore.data.readers import Fault, fault_table, report
from gmmcore.data.shards import BLOCK_FRAMES, Shard
from gmmcore.data.shows import ShowTable
from gmmcore.errors import DamagedFileError, GmmcoreError, counted
from gmmcore.files import REMEDY, PathLike, digest_of, read_bytes, replace_text

SAMPLE_FRAMES = 131_072
"""Number of frames that a sample has at most."""
_KIND = "gmmcore corpus 2"
_OPEN_SHARDS = 256
"""Largest number of shards that are open at a time."""

Frames = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CorpusShard:
    """Entry of one shard in a corpus: its name, its file beside the corpus, and digest of frames.

    `subsets` are the numbers of frames of the subset of each level, a beginning of the shard.
    """

    shard: str
    file: str
    subsets: tuple[int, ...]
    content_digest: str

    @classmethod
    def of(cls, shard: Shard) -> CorpusShard:
        """Make the entry of a shard."""
        name = os.path.basename(shard.path)
        return cls(shard.facts["shard"], name, tuple(shard.subsets), shard.content_digest)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.subsets[0]


@dataclass(frozen=True)
class Corpus:
    """All shards that a run trains on, with the moments of their frames.

    `second` is the sum of the squared differences from the mean. So many faulty shows were skipped,
    whose table ``skipped.tsv`` has the SHA-256 `skipped_digest`.
    """

    shards: tuple[CorpusShard, ...]
    dimension: int
    mean: tuple[float, ...]
    second: tuple[float, ...]
    skipped: int = 0
    skipped_digest: str = ""

    @property
    def frames(self) -> int:
        """Number of frames."""
        return sum(shard.frames for shard in self.shards)

    @cached_property
    def digest(self) -> str:
        """Digest of all frames, in the order of the shards."""
        return digest_of("corpus", [[shard.shard, shard.content_digest] for shard in self.shards])

    @property
    def moments(self) -> Moments:
        """Moments of all frames."""
        return Moments(self.frames, np.array(self.mean), np.array(self.second))

    def paths(self, path: PathLike) -> list[str]:
        """List the shards' files, in the order of the shards, which lie beside the file `path`."""
        return [os.path.join(os.path.dirname(path), shard.file) for shard in self.shards]

    def write(self, path: PathLike) -> None:
        """Write the file, whole or not at all."""
        values = asdict(self)
        values["kind"] = _KIND
        values["check"] = digest_of(values)
        replace_text(path, json.dumps(values, indent=1) + "\n")

    @classmethod
    def read(cls, path: PathLike) -> Corpus:
        """Read and verify a file that `write` wrote."""
        try:
            values = json.loads(read_bytes(path))
            check = values.pop("check")
            if values.pop("kind") != _KIND or check != digest_of({**values, "kind": _KIND}):
                raise ValueError
            values["shards"] = tuple(
                CorpusShard(**{**shard, "subsets": tuple(shard["subsets"])})
                for shard in values["shards"]
            )
            values["mean"], values["second"] = tuple(values["mean"]), tuple(values["second"])
            return cls(**values)
        except GmmcoreError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise DamagedFileError(
                f"{path}: damaged; remove it and give the same command again"
            ) from None


def gather(shows: PathLike, *, skip: bool) -> tuple[Corpus, str]:
    """Verify the shards of ``shows.tsv``; return their corpus, and the table of all faulty shows.

    Faults that were found as the shards were packed are errors, unless they are to `skip`.
    """
    shards = []
    for path in shard_paths(shows).values():
        with Shard(path) as shard:
            shards.append(shard)
    found = [fault for shard in shards for fault in shard.faults]
    faults = [*(Fault(**facts) for facts in ShowTable.read_facts(shows)["faults"]), *found]
    moments = merge_moments(shard.moments for shard in shards)
    if moments.count < 2:
        left = f"{shows}: {counted(moments.count, 'frame')} left; expected 2 or more"
        if not faults:
            raise GmmcoreError(f"{left}; add shows, or set features: vad to null (all frames)")
        raise GmmcoreError(report(faults, left, "fix these shows, or add others"))
    if found and not skip:
        raise GmmcoreError(report(found))
    table = fault_table(faults)
    corpus = Corpus(
        tuple(map(CorpusShard.of, shards)),
        shards[0].dimension,
        tuple(moments.mean.tolist()),
        tuple(moments.scatter.tolist()),
        len(faults),
        hashlib.sha256(table.encode()).hexdigest(),
    )
    return corpus, table


@contextmanager
def reading_frames(path: PathLike) -> Iterator[None]:
    """Remove a shard that is found to be damaged within the block, so that it is made again."""
    try:
        yield
    except DamagedFileError as error:
        Path(path).unlink(missing_ok=True)
        raise DamagedFileError(
            f"{str(error).removesuffix(REMEDY)}removed; give the same command again, which packs "
            "the shard anew and goes on"
        ) from error


class CorpusFrames:
    """The subsets of all frames of a corpus, whose shards lie beside the file `path`.

    Frames that were read are kept: as many as `memory` bytes allow of the subset that is the
    largest one to fit. Others are read each time. Whether they are kept or read, they are verified.
    Forks of this process share what any of them reads if the memory `is_shared`.
    """

    def __init__(
        self, corpus: Corpus, path: PathLike, memory: int = 0, *, is_shared: bool = False
    ) -> None:
        self._entries = corpus.shards
        self._paths = corpus.paths(path)
        self.dimension = corpus.dimension
        self._opened = lru_cache(_OPEN_SHARDS)(partial(_open, corpus, self._paths))
        self._levels: dict[int, _Subset] = {}
        # Blocks are kept whole, because they are verified whole.
        self._blocks = [0] * len(corpus.shards)
        for level in range(len(corpus.shards[0].subsets)):
            blocks = [-(-entry.subsets[level] // BLOCK_FRAMES) for entry in corpus.shards]
            if 4 * self.dimension * BLOCK_FRAMES * sum(blocks) <= memory:
                self._blocks = blocks
                break
        self._kept: dict[int, tuple[Frames, npt.NDArray[np.bool_]]] = {}
        if is_shared:
            for shard in range(len(self._paths)):
                self._keep(shard)

    def at(self, level: int) -> _Subset:
        """Return the frames of the subset of a level, in the order of the shards."""
        if level not in self._levels:
            self._levels[level] = _Subset(self, [entry.subsets[level] for entry in self._entries])
        return self._levels[level]

    def read(self, shard: int, start: int, stop: int) -> Frames:
        """Return the frames start <= i < stop of a shard, shape (stop - start, D), read-only."""
        first, last = start // BLOCK_FRAMES, -(-stop // BLOCK_FRAMES)
        with reading_frames(self._paths[shard]):
            if last > self._blocks[shard]:
                return self._opened(shard).read(start, stop)
            frames, is_read = self._kept.get(shard) or self._keep(shard)
            # Forks may read a block at the same time: they write the same frames.
            for index in (first + np.flatnonzero(~is_read[first:last])).tolist():
                begin = index * BLOCK_FRAMES
                opened = self._opened(shard)
                block = opened.read(begin, min(begin + BLOCK_FRAMES, opened.frames))
                frames[begin : begin + len(block)] = block
                is_read[index] = True
        return frames[start:stop]

    def _keep(self, shard: int) -> tuple[Frames, npt.NDArray[np.bool_]]:
        """Take memory for the blocks of a shard, which is used as they are read."""
        blocks = self._blocks[shard]
        size = 4 * BLOCK_FRAMES * self.dimension * blocks
        try:
            memory = np.frombuffer(mmap.mmap(-1, size + blocks + 1), dtype=np.uint8)
        except OSError as error:
            raise GmmcoreError(
                f"memory: {size >> 20} megabytes for frames cannot be had: {error.strerror}; "
                "set a smaller number"
            ) from error
        frames = memory[:size].view("<f4").reshape(-1, self.dimension)
        self._kept[shard] = frames, memory[size:].view(bool)
        return self._kept[shard]


def _open(corpus: Corpus, paths: list[str], index: int) -> Shard:
    shard, entry = Shard(paths[index]), corpus.shards[index]
    if (shard.content_digest, shard.dimension) != (entry.content_digest, corpus.dimension):
        raise GmmcoreError(f"{shard.path}: has other frames than corpus.json says; {REMEDY}")
    return shard


class _Subset:
    """`FrameSource` of the first frames of each shard."""

    def __init__(self, corpus: CorpusFrames, counts: list[int]) -> None:
        self._corpus = corpus
        self._ends = np.cumsum(counts)
        self._starts = self._ends - counts
        self.frames = int(self._ends[-1])
        self.dimension = corpus.dimension

    def read(self, start: int, stop: int) -> Frames:
        """Return the frames start <= i < stop, shape (stop - start, D)."""
        shard = int(np.searchsorted(self._ends, start, side="right"))
        parts = []
        while start < stop:
            before, end = int(self._starts[shard]), min(int(self._ends[shard]), stop)
            if end > start:
                parts.append(self._corpus.read(shard, start - before, end - before))
            start, shard = max(start, end), shard + 1
        if not parts:
            return np.empty((0, self.dimension), dtype=np.float32)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def sample_frames(
    corpus: Corpus, path: PathLike, limit: int = SAMPLE_FRAMES
) -> npt.NDArray[np.float32]:
    """Read all frames, or blocks of frames that lie evenly over all shards, at most `limit`.

    The frames of the random subsets come first in a shard. Evenly spaced blocks have their share of
    them, so that a mixture trained on a subset is not judged by the frames that it was trained on.
    """
    frames = CorpusFrames(corpus, path)
    blocks = [
        (index, start)
        for index, shard in enumerate(corpus.shards)
        for start in range(0, shard.frames, BLOCK_FRAMES)
    ]
    if corpus.frames > limit:
        count = min(len(blocks), max(1, limit // BLOCK_FRAMES))
        blocks = [blocks[i] for i in np.linspace(0, len(blocks) - 1, count).round().astype(int)]
    ends = [min(start + BLOCK_FRAMES, corpus.shards[index].frames) for index, start in blocks]
    return np.concatenate(
        [frames.read(index, start, end) for (index, start), end in zip(blocks, ends, strict=True)]
    )
