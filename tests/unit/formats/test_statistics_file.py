"""Statistics that cannot be mixed up."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import iadd

import numpy as np
import pytest

from gmmcore import GaussianMixture
from gmmcore.core.estep import accumulate, parts, sums_under
from gmmcore.core.frames import ArraySource
from gmmcore.core.kinds import to_kind
from gmmcore.core.sums import Statistics
from gmmcore.errors import GmmcoreError
from gmmcore.formats.statistics import StatisticsFacts, read_statistics, save_statistics

FACTS = StatisticsFacts("m" * 64, "c" * 64, 2, "s" * 64, "cpu")
FRAMES = np.random.default_rng(1).standard_normal((30_000, 3)).astype("f")
DIAGONAL = GaussianMixture([0.4, 0.6], [[0.0, 0.0, 1.0], [0.5, 0.0, 0.0]], np.ones((2, 3)))
PARTS = parts(ArraySource(FRAMES))
COUNT, SIZE = len(PARTS), sums_under(DIAGONAL, "single", 0.0).size


def save_parts(folder, files, mixture=DIAGONAL, facts=FACTS):
    """Write as many files, with the parts that a job each computes."""
    sums = sums_under(mixture, "single", 0.0)
    paths = []
    for number, chosen in enumerate(np.array_split(np.arange(COUNT), files)):
        found = {part: sums.over(PARTS[part]) for part in chosen.tolist()}
        paths.append(folder / f"{number}.stats.h5")
        save_statistics(paths[-1], found, facts, arithmetic="x", gpu=None)
    return paths


def read(paths, facts=FACTS, count=COUNT, size=SIZE):
    return read_statistics(paths, facts, count, size)


def same(one: Statistics, other: Statistics) -> bool:
    fields = ("count", "first", "second", "origin", "log_likelihood", "frames", "is_full")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in fields)


# There may be more jobs than parts.
@pytest.mark.parametrize("files", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("full", [False, True])
def test_files_in_any_order_are_the_statistics_of_all(tmp_path, files, full):
    mixture = to_kind(DIAGONAL, "full") if full else DIAGONAL
    sums = sums_under(mixture, "single", 0.0)
    paths = save_parts(tmp_path, files, mixture)
    expected = accumulate(mixture, FRAMES, precision="single")
    for order in (paths, paths[::-1], paths[1:] + paths[:1]):
        found, facts = read(order, size=sums.size)
        assert len(found) == COUNT
        assert same(sums.statistics(reduce(iadd, found), len(FRAMES)), expected)
        assert [of_file["arithmetic"] for of_file in facts] == ["x"] * files
        assert all(of_file["device"] == "cpu" for of_file in facts)


def test_equal_statistics_are_equal_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_parts(tmp_path / name, 1)
    (one,), (other,) = (list((tmp_path / name).iterdir()) for name in ("a", "b"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("other", ["mixture", "corpus", "level", "settings", "device"])
def test_strangers_are_removed_and_told(tmp_path, other):
    """A change of the device in the middle of an iteration makes strangers, too."""
    facts = replace(FACTS, **{other: {"level": 3, "device": "cuda"}.get(other, "x" * 64)})
    paths = save_parts(tmp_path, 2)
    save_parts(tmp_path, 1, facts=facts)
    message = (
        rf"0\.stats\.h5: statistics of another {other} \((x+|3|cuda), not .*\); 1 such file rem"
    )
    with pytest.raises(GmmcoreError, match=message) as raised:
        read(paths)
    assert "\n" not in str(raised.value)
    assert [path.exists() for path in paths] == [False, True]


def test_all_strangers_are_removed_at_once(tmp_path):
    paths = save_parts(tmp_path, 3, facts=replace(FACTS, device="cuda"))
    save_parts(tmp_path, 1)
    message = r"1\.stats\.h5: .* device \(cuda, not cpu\); 2 such files removed; give the same"
    with pytest.raises(GmmcoreError, match=message):
        read([paths[1], paths[2], paths[0]])
    assert [path.exists() for path in paths] == [True, False, False]


def test_files_of_another_version_are_strangers(tmp_path):
    (path,) = save_parts(tmp_path, 1)
    with pytest.raises(GmmcoreError, match=r"statistics of another device \(cpu, not None\)"):
        read([path], replace(FACTS, device=None))


@pytest.mark.parametrize(
    ("given", "removed"),
    [([0, 1], [0, 1]), ([0, 2], [0, 2]), ([2], [2]), ([0, 0, 1, 2], [0]), ([0, 1, 2, 2], [2])],
)
def test_missing_and_double_ones_are_removed_and_told(tmp_path, given, removed):
    paths = save_parts(tmp_path, 3)
    message = (
        r"\.stats\.h5: part \d+ is there twice, .*; removed"
        if len(removed) == 1 < len(given)
        else f"the statistics files do not have each of {COUNT} parts of the frames; removed"
    )
    with pytest.raises(GmmcoreError, match=message):
        read([paths[index] for index in given])
    assert [not path.exists() for path in paths] == [index in removed for index in range(3)]


def test_no_file_at_all():
    with pytest.raises(GmmcoreError, match="do not have each of"):
        read([])


def test_a_part_that_does_not_exist_is_removed_and_told(tmp_path):
    (path,) = save_parts(tmp_path, 1)
    with pytest.raises(GmmcoreError, match="do not have each of 14 parts of the frames; removed"):
        read([path], count=COUNT - 1)
    assert not path.exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 5, -1])
def test_numbers_that_are_not_finite_are_removed_and_told(tmp_path, place, bad):
    path = tmp_path / "0.stats.h5"
    values = sums_under(DIAGONAL, "single", 0.0).over(PARTS[0])
    values[place] = bad
    save_statistics(path, {0: values}, FACTS)
    with pytest.raises(GmmcoreError, match=r"0\.stats\.h5: part 0 .* not finite, .*; removed"):
        read([path], count=1)
    assert not path.exists()


def test_another_number_of_components_is_removed_and_told(tmp_path):
    (path,) = save_parts(tmp_path, 1)
    one = GaussianMixture([1.0], np.zeros((1, 3)), np.ones((1, 3)))
    with pytest.raises(GmmcoreError, match=r"0\.stats\.h5: .* not as many as expected; removed"):
        read([path], size=sums_under(one, "single", 0.0).size)
    assert not path.exists()


@pytest.mark.parametrize("place", [40, 1500, -1, None])
def test_a_damaged_file_is_removed_and_told(tmp_path, place):
    (path,) = save_parts(tmp_path, 1)
    data = bytearray(path.read_bytes())
    if place is None:
        data = data[:-100]
    else:
        data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(GmmcoreError, match=r"0\.stats\.h5: .* file removed; give the same"):
        read([path])
    assert not path.exists()


def test_a_file_that_is_missing_is_told(tmp_path):
    with pytest.raises(GmmcoreError, match=r"0\.stats\.h5: cannot be read: No such file"):
        read([tmp_path / "0.stats.h5"])
