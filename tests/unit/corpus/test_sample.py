"""The sample of a corpus: all of it, or blocks from everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from features_files import write_hdf5

from gmmcore.cli.main import main
from gmmcore.data.check import shard_paths
from gmmcore.data.corpus import Corpus, sample_frames
from gmmcore.data.shards import BLOCK_FRAMES


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch) -> Corpus:
    """Three shards, whose one coefficient counts the frames."""
    monkeypatch.chdir(tmp_path)
    for show in range(3):
        count = np.arange(2.5 * BLOCK_FRAMES) + 1e5 * show
        write_hdf5(tmp_path / f"features/s{show}.h5", f"s{show}", count[:, np.newaxis], None)
    given = ["--list=features", "--shards=3"]
    assert main(["shows", *given, "--output", "shows.tsv"]) == 0
    for shard, path in enumerate(shard_paths("shows.tsv").values()):
        which = [f"--shard={shard:03d}", "--output", path]
        assert main(["shard", *given, "--shows=shows.tsv", *which]) == 0
    assert main(["corpus", "--shows=shows.tsv", "--output=c.json", "--skipped=s.tsv"]) == 0
    return Corpus.read("c.json")


def test_a_small_corpus_is_its_own_sample(corpus):
    sample = sample_frames(corpus, "c.json")
    assert sample.shape == (corpus.frames, 1)
    assert len(np.unique(sample)) == corpus.frames


def test_a_sample_has_blocks_of_all_shards(corpus):
    sample = sample_frames(corpus, "c.json", 4 * BLOCK_FRAMES)
    assert 2 * BLOCK_FRAMES <= len(sample) <= 4 * BLOCK_FRAMES
    assert len(np.unique(sample)) == len(sample)
    assert {0, 1, 2} == {int(value) for value in sample[:, 0] // 100_000}
