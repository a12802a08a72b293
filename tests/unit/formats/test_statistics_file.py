"""Statistics that cannot be mixed up."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from gmmcore import GaussianMixture
from gmmcore.core.estep import Expectation, Statistics
from gmmcore.core.frames import ArraySource
from gmmcore.core.initial import to_full
from gmmcore.core.kernels import make_kernel
from gmmcore.core.summation import SumTree, shares
from gmmcore.errors import GmmcoreError
from gmmcore.formats.statistics_file import StatisticsFacts, join_statistics, save_statistics

FACTS = StatisticsFacts("m" * 64, "c" * 64, 2, "s" * 64)
FRAMES = np.random.default_rng(1).standard_normal((30_000, 3)).astype("f")
DIAGONAL = GaussianMixture([0.4, 0.6], [[0.0, 0.0, 1.0], [0.5, 0.0, 0.0]], np.ones((2, 3)))


def expectation_of(
    choice: tuple[bool, bool] | None = None,
    device: str | None = None,
    mixture: GaussianMixture = DIAGONAL,
) -> Expectation:
    kernel = make_kernel(mixture, "single", 0.0)
    return Expectation(kernel, ArraySource(FRAMES), choice, device=device or "cpu")


def save_parts(folder, parts, mixture=DIAGONAL, facts=FACTS):
    expectation = expectation_of(mixture=mixture)
    paths = []
    lengths = [last - first for first, last in expectation.pieces]
    for part, bounds in enumerate(shares(lengths, parts)):
        paths.append(folder / f"{part}.stats.h5")
        save_statistics(
            paths[-1], expectation.tree(1, bounds), facts, choice=expectation.choice, arithmetic="x"
        )
    return paths


def same(one: Statistics, other: Statistics) -> bool:
    fields = ("count", "first", "second", "origin", "log_likelihood", "frames", "is_full")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in fields)


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("full", [False, True])
def test_parts_in_any_order_are_the_statistics_of_all(tmp_path, parts, full):
    mixture = to_full(DIAGONAL) if full else DIAGONAL
    paths = save_parts(tmp_path, parts, mixture)
    whole = expectation_of(mixture=mixture)
    expected = whole.finish(whole.tree().total)
    for order in (paths, paths[::-1], paths[1:] + paths[:1]):
        total, makers, device = join_statistics(
            order, FACTS, partial(expectation_of, mixture=mixture)
        )
        assert same(total, expected)
        assert (makers, device) == (["x"] * parts, None)


def test_equal_statistics_are_equal_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_parts(tmp_path / name, 1)
    (one,), (other,) = (list((tmp_path / name).iterdir()) for name in ("a", "b"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("other", ["mixture", "corpus", "level", "settings"])
def test_strangers_are_refused(tmp_path, other):
    facts = replace(FACTS, **{other: 3 if other == "level" else "x" * 64})
    message = rf"0\.stats\.h5: statistics of another {other} \((x+|3), not .*\); remove the file"
    with pytest.raises(GmmcoreError, match=message):
        join_statistics(save_parts(tmp_path, 1, facts=facts), FACTS, expectation_of)


def test_parts_of_processor_and_device_are_all_removed(tmp_path):
    """The device was changed in the middle of an iteration."""
    jax = "jax 0.10.2 cuda 12090 NVIDIA H100 float32"
    for devices in ([jax, "cpu"], [None, jax], ["cpu", None, jax]):
        paths = save_parts(tmp_path, len(devices))
        expectation = expectation_of()
        lengths = [last - first for first, last in expectation.pieces]
        for path, bounds, device in zip(paths, shares(lengths, len(devices)), devices, strict=True):
            tree = expectation.tree(1, bounds)
            save_statistics(path, tree, FACTS, choice=expectation.choice, device=device)
        with pytest.raises(GmmcoreError, match="all were removed; give the same command again"):
            join_statistics(paths, FACTS, lambda choice, _: expectation_of(choice))
        assert not any(path.exists() for path in paths)


def test_devices_of_several_types_are_told(tmp_path):
    names = ["jax 0.10.2 cuda 12090 NVIDIA H100 float32", "jax 0.10.2 cuda 12090 A100 float32"]
    paths, expectation = save_parts(tmp_path, 2), expectation_of()
    lengths = [last - first for first, last in expectation.pieces]
    for path, bounds, name in zip(paths, shares(lengths, 2), names, strict=True):
        tree = expectation.tree(1, bounds)
        save_statistics(path, tree, FACTS, choice=expectation.choice, device=name)
    total, _, device = join_statistics(paths, FACTS, lambda choice, _: expectation_of(choice))
    assert total.frames == len(FRAMES)
    assert device == f"{min(names)} and others"


def test_another_way_to_compute_is_refused(tmp_path):
    one, other = save_parts(tmp_path, 2)
    save_statistics(other, expectation_of().tree(), FACTS, choice=(True, False))
    with pytest.raises(GmmcoreError, match=r"1\.stats\.h5: statistics of another choice"):
        join_statistics([one, other], FACTS, expectation_of)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([0, 1], "not have each piece of the frames once"),
        ([0, 2], "not have each piece of the frames once"),
        ([2], "not have each piece of the frames once"),
        ([0, 0, 1, 2], "0.stats.h5: node .* was added twice; remove"),
        ([0, 1, 2, 2], "(was added twice|each piece of the frames once)"),
        ([], "not have each piece of the frames once"),
    ],
)
def test_missing_and_double_ones_are_refused(tmp_path, given, message):
    paths = save_parts(tmp_path, 3)
    with pytest.raises(GmmcoreError, match=message):
        join_statistics([paths[index] for index in given], FACTS, expectation_of)


@pytest.mark.parametrize("node", [(0, 10**6), (9, 0), (0, -1)])
def test_pieces_that_do_not_exist_are_refused(tmp_path, node):
    (path,) = save_parts(tmp_path, 1)
    expectation = expectation_of()
    tree = SumTree(len(expectation.pieces))
    tree.nodes[node] = np.zeros(expectation.size)
    save_statistics(path, tree, FACTS, choice=expectation.choice)
    with pytest.raises(GmmcoreError, match=r"0\.stats\.h5: node .* is not one of 8 pieces; remove"):
        join_statistics([path], FACTS, expectation_of)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 5, -1])
def test_numbers_that_are_not_finite_are_refused(tmp_path, place, bad):
    (path,) = save_parts(tmp_path, 1)
    expectation = expectation_of()
    tree = expectation.tree()
    tree.nodes[tree.root][place] = bad
    save_statistics(path, tree, FACTS, choice=expectation.choice)
    with pytest.raises(GmmcoreError, match=r"0\.stats\.h5: .* not finite, .*; remove the file"):
        join_statistics([path], FACTS, expectation_of)


def test_another_number_of_components_is_refused(tmp_path):
    (path,) = save_parts(tmp_path, 1)
    one = GaussianMixture([1.0], np.zeros((1, 3)), np.ones((1, 3)))
    with pytest.raises(GmmcoreError, match=r"0\.stats\.h5: .* not as many as expected; remove"):
        join_statistics([path], FACTS, partial(expectation_of, mixture=one))
