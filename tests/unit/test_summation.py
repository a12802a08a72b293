"""Pieces of the frames, and the order in which their sums are added."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmmcore.core.summation import SumTree, pieces, shares


@pytest.mark.parametrize("block", [2048, 4096])
@pytest.mark.parametrize("frames", [0, 1, 5000, 65_536, 100_000, 200_000, 12_345_678])
def test_pieces_cover_the_frames_and_become_shorter(frames, block):
    found = pieces(frames, block)
    assert [0, *(stop for _, stop in found)] == [*(start for start, _ in found), frames]
    assert all(start % block == 0 for start, _ in found)
    lengths = [stop - start for start, stop in found]
    assert lengths == sorted(lengths, reverse=True)
    assert max(lengths, default=0) <= max(block, min(frames // 32, 16384))
    # Whatever the number of workers, the last ones have little to wait for.
    assert frames < 32 * block or set(lengths[-17:-1]) == {block}


def added(tree: SumTree, values, order) -> SumTree:
    for piece in order:
        tree.add((0, piece), np.array([values[piece]]))
    return tree


def reference(values: list[float]) -> float:
    """The sum by the definition of the tree."""
    while len(values) > 1:
        halves = [values[i : i + 2] for i in range(0, len(values), 2)]
        values = [half[0] + half[1] if len(half) == 2 else half[0] for half in halves]
    return values[0]


@given(st.data(), st.integers(1, 70))
def test_the_order_of_addition_is_that_of_the_tree(data, count):
    values = np.random.default_rng(count).standard_normal(count) * 10.0 ** np.arange(count)
    order = data.draw(st.permutations(range(count)))
    tree = added(SumTree(count), values, order)
    assert tree.total is not None
    assert tree.total[0] == reference([float(value) for value in values])
    assert list(tree.nodes) == [tree.root]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(1, 12), st.data())
def test_workers_that_share_the_pieces_make_the_same_sum(lengths, workers, data):
    count = len(lengths)
    values = np.random.default_rng(count).standard_normal(count) * 10.0 ** np.arange(count)
    bounds = shares(lengths, workers)
    assert len(bounds) == workers
    assert [0, *(last for _, last in bounds)] == [*(first for first, _ in bounds), count]
    whole = SumTree(count)
    for first, last in data.draw(st.permutations(bounds)):
        part = added(SumTree(count), values, range(first, last))
        assert sorted(part.nodes, key=lambda node: node[1] << node[0]) == part.largest(first, last)
        for node, sums in part.nodes.items():
            whole.add(node, sums)
    assert whole.total is not None
    assert whole.total[0] == reference([float(value) for value in values])


@given(st.lists(st.integers(1, 9), min_size=8, max_size=60), st.integers(1, 8))
def test_shares_differ_by_no_more_than_a_piece(lengths, workers):
    ends = np.cumsum([0, *lengths])
    found = [int(ends[last] - ends[first]) for first, last in shares(lengths, workers)]
    assert max(abs(share - ends[-1] / workers) for share in found) <= max(lengths)


def test_sums_that_are_kept_are_not_altered():
    kept = np.ones(3)
    tree = SumTree(4)
    tree.add((0, 0), kept, keep=True)
    tree.add((0, 1), kept, keep=True)
    tree.add((1, 1), kept, keep=True)
    assert kept.tolist() == [1.0, 1.0, 1.0]
    assert tree.total is not None
    assert tree.total.tolist() == [3.0, 3.0, 3.0]


def test_no_piece_at_all():
    assert SumTree(0).total is None
    assert pieces(0, 2048) == []


@pytest.mark.parametrize("node", [(0, 4), (0, -1), (3, 0), (-1, 0), (1, 2)])
def test_nodes_that_do_not_exist_are_refused(node):
    with pytest.raises(ValueError, match="is not one of 4 pieces"):
        SumTree(4).add(node, np.zeros(1))


def test_a_piece_that_comes_twice_is_refused():
    tree = SumTree(4)
    tree.add((0, 0), np.zeros(1))
    with pytest.raises(ValueError, match="node 0 of level 0 was added twice"):
        tree.add((0, 0), np.zeros(1))
    tree.add((0, 1), np.zeros(1))
    with pytest.raises(ValueError, match="node 0 of level 1 was added twice"):
        tree.add((1, 0), np.zeros(1))
