"""What must hold for any features, names and lists."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gmmcore.config.keys import FeatureSettings
from gmmcore.core.moments import Moments, merge_moments
from gmmcore.data.check import check_list, deal
from gmmcore.data.normalise import normalise
from gmmcore.data.process import delta, output_dimension, process, smooth_labels
from gmmcore.data.readers import parse_place, place_of
from gmmcore.data.shards import ShardWriter, block_checksum, read_facts
from gmmcore.data.shows import Row, ShowTable
from gmmcore.errors import GmmcoreError

few = settings(max_examples=50)
values = st.floats(-1e3, 1e3, width=32)
frames = st.tuples(st.integers(1, 40), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=values)
)
names = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=12)
TAPS = FeatureSettings(list="-").delta_taps


@few
@given(frames, st.floats(-8, 8, width=32), st.sampled_from(["repeat", "zero"]))
def test_delta_is_linear_and_blind_to_time_reversal(
    x: np.ndarray, factor: float, edges: str
) -> None:
    d = delta(x, TAPS, edges)
    np.testing.assert_allclose(delta(x * np.float32(factor), TAPS, edges), d * factor, atol=0.05)
    np.testing.assert_allclose(delta(x[::-1], TAPS, edges), -d[::-1], atol=0.01)
    constant = np.full_like(x, 3.0)
    assert (delta(constant, TAPS) == 0).all()


@few
@given(
    frames,
    st.randoms(use_true_random=False),
    st.fixed_dictionaries(
        {
            "rasta": st.booleans(),
            "delta": st.booleans(),
            "label_fusion": st.booleans(),
            "select_speech": st.booleans(),
            "context": st.none() | st.tuples(st.integers(0, 3), st.integers(0, 3)),
            "normalisation": st.sampled_from(
                [None, "cms", "cmvn", "stg", "cms_sliding", "cmvn_sliding"]
            ),
            "window": st.sampled_from([3, 7, 301]),
        }
    ),
)
def test_any_chain_gives_finite_frames_of_the_dimension_it_says(
    x: np.ndarray, random: Any, chain: dict[str, Any]
) -> None:
    chosen = FeatureSettings(list="-", **chain)
    labels = np.array([random.random() < 0.6 for _ in x])
    before = x.copy()
    result, kept = process(x, labels, chosen)
    assert (x == before).all()
    assert result.shape == (len(kept), output_dimension(x.shape[1], chosen))
    assert result.dtype == np.float32
    assert np.isfinite(result).all()


@few
@given(frames)
def test_warping_keeps_the_order_within_a_window(x: np.ndarray) -> None:
    warped = x.copy()
    normalise(warped, np.ones(len(x), dtype=bool), "stg", 301)
    for before, after in zip(x.T, warped.T, strict=True):
        order = np.argsort(before, kind="stable")
        assert (np.diff(after[order]) >= -1e-6)[np.diff(before[order]) > 0].all()


@few
@given(arrays(bool, st.integers(3, 40)))
def test_smoothing_leaves_no_lone_frame(labels: np.ndarray) -> None:
    smooth = smooth_labels(labels)
    text = "".join("01"[int(label)] for label in smooth)
    assert all(len(run) >= 3 for run in re.findall("(?<=0)1+(?=0)", text))
    assert (smooth_labels(smooth) == smooth).all()


@few
@given(
    st.dictionaries(names, st.integers(1, 10**6), min_size=1, max_size=200),
    st.integers(1, 20),
    st.randoms(use_true_random=False),
)
def test_dealing_is_balanced_and_blind_to_order(
    lengths: dict[str, int], shards: int, random: Any
) -> None:
    items = list(lengths.items())
    dealt = dict(zip(lengths, deal(list(lengths), list(lengths.values()), shards), strict=True))
    random.shuffle(items)
    again = dict(zip(dict(items), deal(*map(list, zip(*items, strict=True)), shards), strict=True))
    assert dealt == again
    loads = np.bincount(list(dealt.values()), weights=list(lengths.values()), minlength=shards)
    # Lengths are rounded by a fourth root of two at most a half step: 9 %.
    share = sum(lengths.values()) / shards
    assert loads.max() <= 1.02 * 1.2 * share + 1.2 * max(lengths.values())


def content(parts: list[np.ndarray]) -> str:
    with tempfile.NamedTemporaryFile() as file:
        writer = ShardWriter(file, parts[0].shape[1])
        for part in parts:
            writer.add(part)
        writer.finish({})
        file.flush()
        digest: str = read_facts(file.name)["content_digest"]
        return digest


@few
@given(frames, st.lists(st.integers(0, 40), max_size=5))
def test_how_frames_come_does_not_matter(x: np.ndarray, cuts: list[int]) -> None:
    parts = np.split(x, sorted(cuts))
    assert content([x]) == content(parts)
    total = merge_moments(Moments.of(part) for part in parts)
    exact = x.astype(np.float64)
    assert total.count == len(x)
    np.testing.assert_allclose(total.mean, exact.mean(axis=0), rtol=1e-9, atol=1e-9)
    expected = ((exact - exact.mean(axis=0)) ** 2).sum(axis=0)
    np.testing.assert_allclose(total.scatter, expected, rtol=1e-9, atol=1e-9)


@few
@given(frames, st.data())
def test_a_changed_value_changes_the_checksum(x: np.ndarray, data: Any) -> None:
    other = x.copy()
    at = data.draw(st.tuples(st.integers(0, len(x) - 1), st.integers(0, x.shape[1] - 1)))
    other.view(np.uint32)[at] ^= np.uint32(data.draw(st.integers(1, 2**32 - 1)))
    assert block_checksum(other) != block_checksum(x)


@few
@given(names, st.none() | st.integers(0, 10**17), st.sampled_from(["", "[0:9]", "[1:2,3:4]"]))
def test_places(name: str, offset: int | None, rows: str) -> None:
    name = name.rstrip("]0123456789") + "x"
    text = name + ("" if offset is None else f":{offset}") + rows
    assert parse_place(text, "") == (name, offset, rows[1:-1])


@few
@given(
    names
    | st.from_regex(r"([a-z:/.|]|\[\d?:?\d?\]|:\d){1,6}", fullmatch=True).filter(
        lambda name: "://" not in name
    )
)
def test_any_name_of_a_file_can_be_said(name: str) -> None:
    assert parse_place(place_of(name)) == (name, None, "")


rows = st.builds(
    Row, names, names, st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9),
    st.just("000"),
)  # fmt: skip


@few
@given(st.lists(rows, max_size=10))
def test_tables_come_back(content: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = ShowTable({"shards": 1, "dimension": 3}, content)
        table.write(Path(folder) / "shows.tsv")
        assert ShowTable.read(Path(folder) / "shows.tsv") == table


@few
@given(st.text(max_size=200) | st.binary(max_size=200), st.sampled_from(["l.txt", "l.scp"]))
def test_no_list_ends_in_another_exception(content: str | bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        if isinstance(content, str):
            path.write_bytes(content.encode("utf-8", "surrogatepass"))
        else:
            path.write_bytes(content)
        chosen = FeatureSettings(list=str(path), pattern="{}.h5")
        with pytest.raises(GmmcoreError) as caught:  # no show of such a list exists
            check_list(chosen)
        assert all(line.isprintable() for line in str(caught.value).split("\n"))
