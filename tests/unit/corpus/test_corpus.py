"""corpus.json."""

from __future__ import annotations

import dataclasses
import json

import pytest

from gmmcore.data.corpus import Corpus, CorpusShard
from gmmcore.errors import DamagedFileError, GmmcoreError

SHARDS = (
    CorpusShard("000", "000-ab.npy", (10, 4, 1), "a" * 64),
    CorpusShard("001", "b.npy", (5, 3, 2), "b" * 64),
)
CORPUS = Corpus(SHARDS, 2, (1 / 3, -1e-300), (1e300, 0.1), 3)


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
