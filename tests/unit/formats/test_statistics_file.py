"""Statistics that cannot be mixed up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gmmcore.errors import GmmcoreError
from gmmcore.formats.statistics_file import (
    ShardStatistics,
    in_order,
    read_statistics,
    save_statistics,
)
from gmmcore.statistics import Statistics

SHARDS = [("000", "a"), ("001", "b"), ("002", "c")]
CARRIED = {"mixture": "m" * 64, "level": 2, "settings": "s" * 64}


def entry(shard: str, digest: str, value: float = 1.0, full: bool = False) -> ShardStatistics:
    second = np.full((2, 6 if full else 3), value)
    sums = (np.full(2, value), np.full((2, 3), value), second, np.zeros(3))
    return ShardStatistics(shard, digest, Statistics(*sums, -1.5, 7, full), "")


@pytest.mark.parametrize("full", [False, True])
def test_statistics_come_back(tmp_path, full):
    path = tmp_path / "0.stats.h5"
    saved = [entry(*SHARDS[0], 1 / 3, full), entry(*SHARDS[1], 1e300, full)]
    save_statistics(path, saved, **CARRIED)
    read = list(read_statistics([path], **CARRIED))
    for before, after in zip(saved, read, strict=True):
        assert (after.shard, after.content_digest) == (before.shard, before.content_digest)
        assert after.statistics.is_full == full
        assert after.statistics.frames == 7
        assert after.statistics.log_likelihood == -1.5
        for name in ("count", "first", "second", "origin"):
            np.testing.assert_array_equal(
                getattr(after.statistics, name), getattr(before.statistics, name)
            )


def test_equal_statistics_are_equal_bytes(tmp_path):
    for name in ("a", "b"):
        save_statistics(tmp_path / name, [entry(*SHARDS[0])], **CARRIED)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("other", ["mixture", "level", "settings"])
def test_strangers_are_refused(tmp_path, other):
    path = tmp_path / "0.stats.h5"
    save_statistics(
        path, [entry(*SHARDS[0])], **{**CARRIED, other: 3 if other == "level" else "x" * 64}
    )
    message = rf"0\.stats\.h5: statistics of another {other} \((x+|3), not .*\); remove the file"
    with pytest.raises(GmmcoreError, match=message):
        list(read_statistics([path], **CARRIED))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([0, 1], "the statistics of shard 002 are missing"),
        ([0, 2], "f2: statistics of shard 002 where those of 001 were expected; remove"),
        ([0, 0, 1, 2], "f0: statistics of shard 000 where those of 001 were expected; remove"),
        ([1, 0, 2], "f1: statistics of shard 001 where those of 000 were expected; remove"),
        ([0, 1, 2, 2], "f2: statistics of shard 002 where those of no other were expected"),
        ([], "the statistics of shard 000 are missing"),
    ],
)
def test_missing_double_and_exchanged_ones_are_refused(given, message):
    entries = [replace(entry(*SHARDS[index]), source=f"f{index}") for index in given]
    with pytest.raises(GmmcoreError, match=message):
        list(in_order(entries, SHARDS))
    whole = [entry(*shard) for shard in SHARDS]
    assert list(in_order(whole, SHARDS)) == whole


def test_statistics_of_other_frames_are_refused():
    entries = [replace(entry("000", "z"), source="f0")]
    with pytest.raises(GmmcoreError, match="f0: statistics of shard 000 are of other frames; rem"):
        list(in_order(entries, SHARDS[:1]))


@pytest.mark.parametrize("field", ["count", "first", "second", "origin", "log_likelihood"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(field, bad):
    good = entry(*SHARDS[0]).statistics
    value = getattr(good, field)
    broken = value.copy() if isinstance(value, np.ndarray) else bad
    if isinstance(broken, np.ndarray):
        broken.flat[-1] = bad
    entries = [ShardStatistics("000", "a", replace(good, **{field: broken}), "f0")]
    with pytest.raises(GmmcoreError, match=r"f0: .* not finite; remove the file"):
        list(in_order(entries, SHARDS[:1]))
