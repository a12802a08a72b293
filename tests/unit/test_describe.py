"""What a person is told about a training before the mixture is used, and the sizes it passed."""

from __future__ import annotations

from dataclasses import replace
from math import isnan, nan
from typing import Any

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture as Other

from gmmcore import GaussianMixture
from gmmcore.core.describe import cautions, gain_left, sizes
from gmmcore.core.estep import accumulate
from gmmcore.core.history import HistoryEntry


def entry(iteration: int, gain: float, **values: Any) -> HistoryEntry:
    known = {"stage": "diag", "components": 2, "level": 0, "frames": 10_000}
    known |= {"log_likelihood": -10.0 + iteration, "floored": 0, "ceiled": 0, "low_count": 0}
    known |= {"smallest_occupancy": 100.0, **values}
    return HistoryEntry(iteration=iteration, gain=gain, **known)


def held(likelihoods: list[float], held_out: list[float]) -> list[HistoryEntry]:
    result: list[HistoryEntry] = []
    for at, (value, other) in enumerate(zip(likelihoods, held_out, strict=True), start=1):
        gain = 0.001 if at > 1 else nan
        result.append(entry(at, gain, log_likelihood=value, held_out=other))
    return result


TWO = GaussianMixture([0.5, 0.5], np.zeros((2, 3)), np.ones((2, 3)))


def test_a_converged_training_has_no_cautions():
    assert cautions(TWO, [entry(1, nan), entry(2, 0.5), entry(3, 0.001)], 0.01, 0.0) == []
    assert cautions(TWO, [], 0.01, 0.0) == []


@pytest.mark.parametrize(
    ("gains", "left"),
    [
        ([nan, 0.5, 0.3], 0.3),
        ([nan, 0.5, 0.009], None),
        # The first iteration on all frames has no gain: the subset before it tells.
        ([nan, 0.5, nan], 0.5),
        ([nan, 0.001, nan], None),
    ],
)
def test_a_stage_that_ended_by_its_limit_has_a_gain_left(gains, left):
    entries = [entry(at, gain) for at, gain in enumerate(gains, start=1)]
    assert gain_left(entries, 0.01) == left
    lines = cautions(TWO, entries, 0.01, 0.0)
    assert len(lines) == (left is not None)
    assert not lines or ("diag 2 ended after 3 iterations" in lines[0] and "raise" in lines[0])


@pytest.mark.parametrize(("level", "is_left"), [(0, True), (2, False)])
def test_the_last_stage_converges_at_the_last_gain(level, is_left):
    """On a subset, at three times as much."""
    entries = [entry(1, nan, level=level), entry(2, 0.002, level=level)]
    assert gain_left(entries, 0.01) is None
    lines = cautions(TWO, entries, 0.01, 0.0, 0.001)
    assert len(lines) == is_left
    assert all("more than last_gain (0.001): raise iterations" in line for line in lines)
    for last, ended in (("diag", is_left), ("full", False)):  # Another stage may follow.
        made = {("diag", 2): (TWO, -1.0, nan), (last, 2): (TWO, -1.0, nan)}
        found = sizes(made, entries, 10_000, 0.01, 0.001)
        assert found[0].ended == ("limit" if ended else "converged")


def test_a_single_iteration_tells_nothing():
    assert np.isnan(gain_left([entry(1, nan)], 0.01))


def test_components_without_frames_are_told_with_what_to_change():
    entries = [entry(1, nan), entry(2, 0.0, low_count=1, smallest_occupancy=0.2)]
    (line,) = cautions(TWO, entries, 0.01, 0.0)
    assert line.startswith("1 of 2 components have a low count, and the smallest holds no frame")
    assert line.endswith("train fewer components or bring more shows")


def test_few_frames_for_each_component_are_told():
    (line,) = cautions(TWO, [entry(1, nan, frames=18), entry(2, 0.0, frames=18)], 0.01, 0.0)
    assert line.startswith("18 frames are 9.0 for each of 2 diagonal components")


def test_training_and_held_out_that_part_ways_are_told_with_the_best_iteration():
    (line,) = cautions(TWO, held([-80, -75, -70], [-81, -79, -83]), 0.01, 0.0)
    assert "fell from -79.0000 (before iteration 2 of diag 2) to -83.0000" in line
    assert "rose from -75.0000 to -70.0000" in line
    assert cautions(TWO, held([-80, -75, -70], [-81, -80, -79]), 0.01, 0.0) == []
    assert cautions(TWO, held([-80, -75, -70], [nan, nan, nan]), 0.01, 0.0) == []


def test_a_training_that_fits_its_own_frames_only_is_not_told_to_go_on():
    entries = [replace(one, gain=0.5) for one in held([-80, -75, -70], [-81, -79, -83])]
    (line,) = cautions(TWO, entries, 0.01, 0.0)
    assert "the held-out log-likelihood per frame fell" in line


def test_bic_and_aic_are_those_of_scikit_learn():
    frames = np.random.default_rng(3).standard_normal((500, 4)) * [1, 2, 3, 4]
    found, wanted = {}, []
    for kind, name in (("diag", "diag"), ("full", "full")):
        other = Other(3, covariance_type=name, random_state=0, max_iter=20, tol=0.1).fit(frames)
        made = GaussianMixture.from_covariances(other.weights_, other.means_, other.covariances_)
        assert made.parameters == other._n_parameters()
        total = accumulate(made, frames).log_likelihood
        found[kind, 3] = made, total / len(frames), nan
        wanted += [other.bic(frames), other.aic(frames)]
    known = sizes(found, [], len(frames), 0.01)
    assert [size.name for size in known] == ["diag/3", "full/3"]
    np.testing.assert_allclose([v for size in known for v in (size.bic, size.aic)], wanted)
    assert all(size.ended == "" and isnan(size.held_out) for size in known)


def test_each_size_says_how_its_stage_ended():
    one = GaussianMixture([1.0], [[0.0]], [[1.0]])
    rows = [(2, 1, nan), (2, 2, 0.5), (4, 1, nan), (4, 2, 0.001)]
    history = [
        HistoryEntry("diag", count, number, 0, 50, -1.0, gain, 0, 0, 0, 9.0)
        for count, number, gain in rows
    ]
    made = {("diag", count): (one, -1.0, nan) for count in (1, 2, 4)}
    found = sizes(made, history, 100, 0.01)
    assert [size.ended for size in found] == ["", "limit", "converged"]
    assert [size.trained_on for size in found] == [0, 50, 50]
    assert found[1].gain == 0.5
