"""Weights of frames: a frame of weight w counts as w frames."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmmcore import GaussianMixture
from gmmcore.core.estep import log_likelihood, parts, statistics_over, sums_under
from gmmcore.core.frames import ArraySource, repeated
from gmmcore.core.kinds import KINDS, to_kind
from gmmcore.core.moments import Moments
from gmmcore.core.pruned import PrunedSums
from gmmcore.core.settings import FullMStep, MStep, TrainingSettings
from gmmcore.core.sums import Statistics, Sums
from gmmcore.core.train import moments, train

RNG = np.random.default_rng(5)
CENTRES = RNG.normal(0, 30, (160, 3))
LARGE = GaussianMixture(np.full(160, 1 / 160), CENTRES, RNG.uniform(0.5, 2, (160, 3)))
FRAMES = LARGE.sample(2500, seed=1)[0]
WEIGHTS = RNG.integers(1, 5, len(FRAMES)).astype(float)


def assert_equal(one: Statistics, other: Statistics, rtol: float = 1e-9) -> None:
    for name in ("count", "first", "second", "log_likelihood", "frames"):
        expected = getattr(other, name)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(getattr(one, name), expected, rtol=rtol, atol=rtol * scale)


@pytest.mark.parametrize("precision", ["double", "single"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("components", [2, 160])
def test_sums_are_those_of_repeated_frames(kind: str, components: int, precision: str) -> None:
    few = GaussianMixture(np.full(2, 0.5), CENTRES[:2], np.full((2, 3), 0.01))
    mixture = to_kind(LARGE if components > 2 else few, kind)
    sums: Sums = sums_under(mixture, precision, 2e-8)
    assert isinstance(sums, PrunedSums) == (components > 2)
    weighted, plain = (
        parts(ArraySource(frames, weights))
        for frames, weights in ((FRAMES, WEIGHTS), (repeated(ArraySource(FRAMES, WEIGHTS)), None))
    )
    found = statistics_over(sums, weighted, map)
    rtol = 1e-9 if precision == "double" else 1e-4
    assert_equal(found, statistics_over(sums, plain, map), rtol)
    assert found.frames == WEIGHTS.sum()
    # A worker without the frames gets the weights, too.
    again = statistics_over(sums, pickle.loads(pickle.dumps(weighted)), map)  # noqa: S301
    assert_equal(again, found, 0)
    total = log_likelihood(mixture, ArraySource(FRAMES, WEIGHTS), precision=precision)
    assert total == pytest.approx(found.log_likelihood, rel=1e-5)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=50).filter(any),
    st.sampled_from([1.0, 0.25, 3.5]),
)
def test_repeated_frames_are_as_many_as_the_weights(counts: list[int], scale: float) -> None:
    weights = scale * np.array(counts)
    frames = np.arange(float(len(counts)))[:, np.newaxis]
    found = repeated(ArraySource(frames, weights)).ravel().astype(int)
    assert (np.abs(np.bincount(found, minlength=len(counts)) - weights) <= 1).all()
    assert len(found) == np.floor(weights.sum() + 0.5)
    total = Moments.of(frames, np.array(counts, float))
    plain = Moments.of(np.repeat(frames, counts, axis=0))
    assert total.count == plain.count
    np.testing.assert_allclose(total.mean, plain.mean, rtol=1e-12)
    np.testing.assert_allclose(total.scatter, plain.scatter, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_is_that_of_repeated_frames(kind: str) -> None:
    settings = TrainingSettings(precision="double", diag=MStep(), full=FullMStep())
    last = 8 if KINDS[kind].is_full else 0
    trained = [
        train(source, 7, [4, 8], last, settings, kind=kind)[0]
        for source in (ArraySource(FRAMES, WEIGHTS), np.repeat(FRAMES, WEIGHTS.astype(int), axis=0))
    ]
    for name in ("weights", "means", "precisions", "variance_control"):
        one, other = (getattr(mixture, name) for mixture in trained)
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_large_weights_need_no_memory() -> None:
    found = repeated(ArraySource([[1.0], [2.0]], np.array([1e9, 3e9])))
    assert len(found) == 200_000
    assert found.mean() == pytest.approx(1.75)
    assert moments(ArraySource([[1.0], [2.0]], np.array([1e9, 3e9]))).count == 4e9
