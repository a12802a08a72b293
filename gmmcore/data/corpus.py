"""The corpus of a run, corpus.json: its shards, the moments of all frames, and the frames."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property, lru_cache, partial

import numpy as np
import numpy.typing as npt

from gmmcore.core.initial import outlying, robust_variances
from gmmcore.core.moments import Moments, merge_moments
from gmmcore.data.check import shard_paths
from gmmcore.data.readers import Fault, Frames, fault_table, report
from gmmcore.data.shards import BLOCK_FRAMES, Shard
from gmmcore.data.shows import ShowTable
from gmmcore.errors import DamagedFileError, GmmcoreError, counted
from gmmcore.files import PathLike, digest_of, read_bytes, replace_text

SAMPLE_FRAMES = 131_072
_KIND = "gmmcore corpus 4"
_OPEN_SHARDS = 256


@dataclass(frozen=True)
class CorpusShard:
    """A shard in a corpus: its name, its file, the frames in each subset, and their digest."""

    shard: str
    file: str
    subsets: tuple[int, ...]
    content_digest: str

    @classmethod
    def of(cls, shard: Shard) -> CorpusShard:
        """Return the entry of an open shard."""
        name = os.path.basename(shard.path)
        return cls(shard.facts["shard"], name, tuple(shard.subsets), shard.content_digest)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.subsets[0]


@dataclass(frozen=True)
class Corpus:
    """The shards that a run trains on, with moments of all frames."""

    shards: tuple[CorpusShard, ...]
    dimension: int
    mean: tuple[float, ...]
    second: tuple[float, ...]  # Sums of the squared differences from the mean.
    robust: tuple[float, ...]  # Variances, or those by quantiles of random frames if less.
    skipped: int = 0  # Number of faulty shows.
    skipped_digest: str = ""  # SHA-256 of their table, skipped.tsv.
    # Dimensions whose variance few frames make, each with the show of the farthest frame.
    outliers: tuple[tuple[int, str], ...] = ()

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
        """List the files of the shards, which are in the folder of the corpus file `path`."""
        return [os.path.join(os.path.dirname(path), shard.file) for shard in self.shards]

    def write(self, path: PathLike) -> None:
        """Write corpus.json."""
        values = asdict(self)
        values["kind"] = _KIND
        values["check"] = digest_of(values)
        replace_text(path, json.dumps(values, indent=1) + "\n")

    @classmethod
    def read(cls, path: PathLike) -> Corpus:
        """Read and verify a corpus.json."""
        content = read_bytes(path)
        try:
            values = json.loads(content)
            check = values.pop("check")
            if values.pop("kind") != _KIND or check != digest_of({**values, "kind": _KIND}):
                raise ValueError
            values["shards"] = tuple(
                CorpusShard(**{**shard, "subsets": tuple(shard["subsets"])})
                for shard in values["shards"]
            )
            values |= {name: tuple(values[name]) for name in ("mean", "second", "robust")}
            values["outliers"] = tuple(map(tuple, values["outliers"]))
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise DamagedFileError(path, "damaged") from None


def gather(shows: PathLike, *, skip: bool) -> tuple[Corpus, str]:
    """Verify the shards of ``shows.tsv``; return their corpus and the table of faulty shows."""
    shards, facts = [], ShowTable.read_facts(shows)
    for name, path in shard_paths(shows).items():
        with Shard(path) as shard:
            shards.append(shard)
        if shard.facts["recipe_digest"] != facts["recipe_digests"][name]:
            raise DamagedFileError(path, "not the shard of this name")
    found = [fault for shard in shards for fault in shard.faults]
    faults = [*(Fault(**fault) for fault in facts["faults"]), *found]
    moments = merge_moments(shard.moments for shard in shards)
    if moments.count < 2:
        left = f"{shows}: {counted(int(moments.count), 'frame')} left; expected 2 or more"
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
        (),
        len(faults),
        hashlib.sha256(table.encode()).hexdigest(),
    )
    subset = CorpusFrames(corpus, shows).at
    robust = np.minimum(moments.scatter / moments.count, robust_variances(subset))
    outliers = [(at, _farthest(shards, moments.mean, at)) for at in outlying(subset, moments)]
    return replace(corpus, robust=tuple(robust.tolist()), outliers=tuple(outliers)), table


def _farthest(shards: Sequence[Shard], mean: npt.NDArray[np.float64], dimension: int) -> str:
    """Return the show with the frame that is farthest from the mean in a dimension."""
    known = [
        (abs(ends[dimension] - mean[dimension]), shows[dimension])
        for shard in shards
        for ends, shows in zip(shard.facts["ends"], shard.facts["shows_of_ends"], strict=False)
    ]
    return max(known)[1]


class CorpusFrames:
    """Frames of a corpus and its subsets; the largest one that fits `memory` bytes stays there."""

    def __init__(
        self, corpus: Corpus, path: PathLike, memory: int = 0, *, is_shared: bool = False
    ) -> None:
        paths = corpus.paths(path)
        self.dimension = corpus.dimension
        self._opened = lru_cache(_OPEN_SHARDS)(partial(_open, corpus, paths))
        # The source of the frames of the subset of a level, in the order of the shards.
        self.at = cache(partial(_Subset, self, corpus))
        # Checksums belong to whole blocks, so that whole blocks stay in memory.
        self._blocks = [0] * len(corpus.shards)
        for level in range(len(corpus.shards[0].subsets)):
            blocks = [-(-entry.subsets[level] // BLOCK_FRAMES) for entry in corpus.shards]
            if 4 * self.dimension * BLOCK_FRAMES * sum(blocks) <= memory:
                self._blocks = blocks
                break
        self._kept: dict[int, tuple[Frames, npt.NDArray[np.bool_]]] = {}
        if is_shared:  # Forks of this process share the memory.
            for shard in range(len(paths)):
                self._keep(shard)

    def read(self, shard: int, start: int, stop: int) -> Frames:
        """Return the frames start <= i < stop of a shard, shape (stop - start, D), read-only."""
        first, last = start // BLOCK_FRAMES, -(-stop // BLOCK_FRAMES)
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
        """Take memory for the blocks of a shard."""
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
        raise DamagedFileError(shard.path, "has other frames than corpus.json says")
    return shard


class _Subset:
    """A `FrameSource` of the first frames of each shard."""

    def __init__(self, frames: CorpusFrames, corpus: Corpus, level: int) -> None:
        counts = [entry.subsets[level] for entry in corpus.shards]
        self._read = frames.read
        self._ends = np.cumsum(counts)
        self._starts = self._ends - counts
        self.frames, self.dimension = int(self._ends[-1]), corpus.dimension

    def read(self, start: int, stop: int) -> Frames:
        """Return the frames start <= i < stop, shape (stop - start, D)."""
        shard = int(np.searchsorted(self._ends, start, side="right"))
        parts = []
        while start < stop:
            before, end = int(self._starts[shard]), min(int(self._ends[shard]), stop)
            if end > start:
                parts.append(self._read(shard, start - before, end - before))
            start, shard = max(start, end), shard + 1
        if not parts:
            return np.empty((0, self.dimension), dtype=np.float32)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def sample_frames(corpus: Corpus, path: PathLike, limit: int = SAMPLE_FRAMES) -> Frames:
    """Read all frames, or at most `limit` frames in blocks at even distances over all shards."""
    # A shard begins with its random subsets, which blocks at even distances do not prefer: a
    # mixture trained on a subset is not judged by its own frames.
    frames = CorpusFrames(corpus, path)
    blocks = [
        (index, start)
        for index, shard in enumerate(corpus.shards)
        for start in range(0, shard.frames, BLOCK_FRAMES)
    ]
    if corpus.frames > limit:
        count = min(len(blocks), max(1, limit // BLOCK_FRAMES))
        blocks = [blocks[i] for i in np.linspace(0, len(blocks) - 1, count).round().astype(int)]
    parts = []
    for index, start in blocks:
        end = min(start + BLOCK_FRAMES, corpus.shards[index].frames)
        parts.append(frames.read(index, start, end))
    return np.concatenate(parts)
