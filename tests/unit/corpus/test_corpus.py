"""corpus.json, the frames of its shards as one source, and a sample of them."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest
from corpora import frames_of, make_corpus
from features_files import write_hdf5

from gmmcore.cli.main import main
from gmmcore.data.check import shard_paths
from gmmcore.data.corpus import Corpus, CorpusFrames, CorpusShard, sample_frames
from gmmcore.data.shards import BLOCK_FRAMES
from gmmcore.errors import DamagedFileError, GmmcoreError

COUNTS = (10_000, 0, 1, BLOCK_FRAMES, 5000, 0)
BLOCK_BYTES = 4 * 3 * BLOCK_FRAMES
SHARDS = (
    CorpusShard("000", "000-ab.npy", (10, 4, 1), "a" * 64),
    CorpusShard("001", "b.npy", (5, 3, 2), "b" * 64),
)
CORPUS = Corpus(SHARDS, 2, (1 / 3, -1e-300), (1e300, 0.1), (1.0, 0.1), 3)


def test_a_corpus_comes_back_to_the_last_bit(tmp_path):
    path = tmp_path / "corpus.json"
    CORPUS.write(path)
    again = Corpus.read(path)
    assert again == CORPUS
    assert again.frames == 15
    assert again.paths("a/corpus.json") == ["a/000-ab.npy", "a/b.npy"]


def test_its_digest_is_that_of_the_frames_in_their_order():
    elsewhere = dataclasses.replace(SHARDS[0], file="other.npy")
    assert dataclasses.replace(CORPUS, shards=(elsewhere, SHARDS[1])).digest == CORPUS.digest
    other = dataclasses.replace(SHARDS[0], content_digest="c" * 64)
    assert dataclasses.replace(CORPUS, shards=(other, SHARDS[1])).digest != CORPUS.digest
    assert dataclasses.replace(CORPUS, shards=SHARDS[::-1]).digest != CORPUS.digest


def test_whatever_is_altered_is_noticed(tmp_path):
    path = tmp_path / "corpus.json"
    CORPUS.write(path)
    content = path.read_bytes()
    for position, byte in enumerate(content):
        if chr(byte).isspace():
            continue  # without effect in JSON
        path.write_bytes(content[:position] + bytes([byte ^ 1]) + content[position + 1 :])
        with pytest.raises(DamagedFileError, match="remove it and give the same command again"):
            Corpus.read(path)
    for size in (*range(0, len(content) - 2, 7), len(content) - 2):
        path.write_bytes(content[:size])
        with pytest.raises(DamagedFileError):
            Corpus.read(path)


@pytest.mark.parametrize("text", ["[" * 100_000, "null", "[]", '{"kind": 1}', '{"check": NaN}'])
def test_foreign_json_is_refused(tmp_path, text):
    (tmp_path / "corpus.json").write_text(text)
    with pytest.raises(DamagedFileError):
        Corpus.read(tmp_path / "corpus.json")


def test_one_that_lies_consistently_but_lacks_a_key(tmp_path):
    path = tmp_path / "corpus.json"
    CORPUS.write(path)
    values = json.loads(path.read_text())
    del values["dimension"]
    path.write_text(json.dumps(values))
    with pytest.raises(DamagedFileError):
        Corpus.read(path)
    with pytest.raises(GmmcoreError, match="cannot be read"):
        Corpus.read(tmp_path / "none")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"), COUNTS)


def frames_in(path, **settings):
    return CorpusFrames(Corpus.read(path), path, **settings)


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("memory", [0, 1, 3 * BLOCK_BYTES, 4 * BLOCK_BYTES, 10**9])
def test_any_range_of_any_subset(corpus, memory, is_shared):
    frames = frames_in(corpus, memory=memory, is_shared=is_shared)
    rng = np.random.default_rng(1)
    for _ in range(2):  # what was read, is read again from memory
        for level in (3, 0, 20, 1):
            expected = frames_of(corpus, level)
            source = frames.at(level)
            assert (source.frames, source.dimension) == expected.shape
            ranges = [(0, source.frames), (0, 0), (source.frames, source.frames)]
            ranges += [sorted(rng.integers(source.frames + 1, size=2)) for _ in range(30)]
            for start, stop in ranges:
                np.testing.assert_array_equal(source.read(start, stop), expected[start:stop])


def test_frames_that_are_kept_are_read_once(corpus, tmp_path):
    copy = make_corpus(tmp_path, COUNTS)
    everything, one = frames_in(copy, memory=10**9), frames_in(copy, memory=4 * BLOCK_BYTES)
    expected = [(source, source.at(0).read(0, source.at(0).frames)) for source in (everything, one)]
    for path in tmp_path.glob("*.npy"):
        data = bytearray(path.read_bytes())
        size = 12 * len(np.load(path))
        data[1024 : 1024 + size] = bytes(size)
        path.write_bytes(data)
    source, frames = expected[0]
    np.testing.assert_array_equal(source.at(0).read(0, source.at(0).frames), frames)
    with pytest.raises(DamagedFileError):
        one.at(0).read(0, one.at(0).frames)


def test_forks_share_what_one_of_them_reads(tmp_path):
    path = make_corpus(tmp_path, COUNTS)
    source = frames_in(path, memory=10**9, is_shared=True).at(0)
    expected = frames_of(path, 0)
    child = os.fork()
    if not child:
        source.read(0, source.frames)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    for shard in tmp_path.glob("*.npy"):
        shard.unlink()
    np.testing.assert_array_equal(source.read(0, source.frames), expected)


@pytest.mark.parametrize("memory", [0, 10**9])
def test_a_damaged_shard_is_named(tmp_path, memory):
    path = make_corpus(tmp_path, COUNTS)
    damaged = tmp_path / "004.npy"
    data = bytearray(damaged.read_bytes())
    data[5000] ^= 1
    damaged.write_bytes(data)
    source = frames_in(path, memory=memory).at(0)
    source.read(0, sum(COUNTS[:4]))
    with pytest.raises(DamagedFileError, match=r"004\.npy: damaged: .*") as found:
        source.read(0, source.frames)
    assert found.value.path == str(damaged)


def test_a_shard_of_other_frames_is_named(tmp_path):
    path = make_corpus(tmp_path, COUNTS)
    (tmp_path / "000.npy").write_bytes((tmp_path / "004.npy").read_bytes())
    with pytest.raises(GmmcoreError, match=r"000\.npy: has other frames than .*corpus\.json"):
        frames_in(path).at(0).read(0, 1)


@pytest.mark.parametrize("memory", [0, 10**9])
def test_more_shards_than_a_process_may_open(tmp_path, memory):
    path = make_corpus(tmp_path, [3] * 400)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()  # Files of other sources are closed.
    resource.setrlimit(resource.RLIMIT_NOFILE, (350, hard))
    try:
        source = frames_in(path, memory=memory).at(0)
        np.testing.assert_array_equal(source.read(0, 1200), frames_of(path, 0))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_memory_than_there_is(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(12, "Cannot allocate memory")

    path = make_corpus(tmp_path, [3])
    monkeypatch.setattr("gmmcore.data.corpus.mmap.mmap", refuse)
    with pytest.raises(GmmcoreError, match="memory: 0 megabytes for frames cannot be had: Cannot"):
        frames_in(path, memory=10**9, is_shared=True)


@pytest.fixture
def counting(tmp_path: Path, monkeypatch) -> Corpus:
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


def test_a_small_corpus_is_its_own_sample(counting):
    sample = sample_frames(counting, "c.json")
    assert sample.shape == (counting.frames, 1)
    assert len(np.unique(sample)) == counting.frames


def test_a_sample_has_blocks_of_all_shards(counting):
    sample = sample_frames(counting, "c.json", 4 * BLOCK_FRAMES)
    assert 2 * BLOCK_FRAMES <= len(sample) <= 4 * BLOCK_FRAMES
    assert len(np.unique(sample)) == len(sample)
    assert {0, 1, 2} == {int(value) for value in sample[:, 0] // 100_000}
