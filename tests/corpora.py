"""Small corpora of shards, without features and lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gmmcore.core.initial import robust_variances
from gmmcore.core.moments import merge_moments
from gmmcore.core.schedule import frame_levels
from gmmcore.data.corpus import Corpus, CorpusFrames, CorpusShard
from gmmcore.data.shards import Shard, ShardWriter
from gmmcore.data.shows import Row, ShowTable
from gmmcore.files import writing


def make_corpus(folder: Path, counts: Sequence[int], dimension: int = 3, seed: int = 1) -> Path:
    """Write shards with so many frames of a few clusters, their corpus.json and shows.tsv."""
    rng = np.random.default_rng(seed)
    places = 3 * rng.standard_normal((9, dimension))
    shards = []
    for number, count in enumerate(counts):
        chosen = places[rng.integers(9, size=count)]
        frames = (chosen + rng.standard_normal((count, dimension))).astype(np.float32)
        path = folder / f"{number:03d}.npy"
        with writing(path) as stream:
            writer = ShardWriter(stream, dimension)
            if count:
                writer.add(frames, frame_levels(seed, str(number), count))
            writer.finish({"shard": f"{number:03d}", "recipe_digest": "d", "faults": []})
        with Shard(path) as shard:
            shards.append(shard)
    moments = merge_moments(shard.moments for shard in shards)
    entries = tuple(map(CorpusShard.of, shards))
    mean, scatter = tuple(moments.mean.tolist()), tuple(moments.scatter.tolist())
    corpus = Corpus(entries, dimension, mean, scatter, ())
    robust = robust_variances(CorpusFrames(corpus, folder / "corpus.json").at)
    replace(corpus, robust=tuple(robust.tolist())).write(folder / "corpus.json")
    rows = [
        Row(f"{seed}-{number}", "x", 0, count, count, f"{number:03d}")
        for number, count in enumerate(counts)
    ]
    ShowTable({"shards": len(counts)}, rows).write(folder / "shows.tsv")
    return folder / "corpus.json"


def frames_of(path: Path, level: int) -> np.ndarray:
    """Return the subset of a level, read by numpy alone."""
    corpus = Corpus.read(path)
    parts = [np.load(path.parent / shard.file)[: shard.subsets[level]] for shard in corpus.shards]
    return np.concatenate(parts)
