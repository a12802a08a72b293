"""Division of components where the likelihood gains most, and merging where it loses least."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmmcore.core.divide import divide, divided
from gmmcore.core.estep import accumulate
from gmmcore.core.frames import ArraySource
from gmmcore.core.initial import one_gaussian, split
from gmmcore.core.merge import merge
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.moments import Moments
from gmmcore.core.settings import MStep
from gmmcore.core.train import TrainingSettings, train


def clusters(means: np.ndarray, each: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    frames = np.repeat(means, each, axis=0) + rng.standard_normal(
        (len(means) * each, means.shape[1])
    )
    return frames[rng.permutation(len(frames))]


def one(frames: np.ndarray) -> GaussianMixture:
    return one_gaussian(Moments.of(frames))


def test_separate_clusters_are_found_in_one_call() -> None:
    means = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 12.0], [9.0, 15.0], [-14.0, 3.0]])
    frames = clusters(means, 400)
    found = divided(one(frames), 5, lambda level: ArraySource(frames), MStep())
    distances = np.linalg.norm(means[:, np.newaxis] - found.means, axis=2)
    assert (np.sort(distances, axis=1)[:, 0] < 1).all()
    np.testing.assert_allclose(found.weights, 0.2, atol=0.03)


def test_the_axis_need_not_be_a_coordinate() -> None:
    direction = np.ones(10) / np.sqrt(10)
    frames = clusters(np.stack([-4 * direction, 4 * direction]), 500)
    found = divide(one(frames), frames, 2)
    cosine = (found.means[1] - found.means[0]) @ direction / 8
    assert abs(cosine) > 0.95


def test_two_clusters_are_seen_beside_a_coordinate_that_is_wider() -> None:
    """The widest coordinate and the principal axis are those of a Gaussian; the kurtosis tells."""
    frames = clusters(np.array([[-4.0, 0.0, 0.0], [4.0, 0.0, 0.0]]), 500)
    frames[:, 1] *= 30
    frames[:, 2] = frames[:, 1] + 0.1 * frames[:, 2]
    found = divide(one(frames), frames, 2)
    assert abs(found.means[1, 0] - found.means[0, 0]) > 7


def test_identical_frames_stay_one_component() -> None:
    rng = np.random.default_rng(1)
    frames = np.concatenate([np.full((500, 3), 50.0), rng.standard_normal((500, 3))])
    found = divide(divide(one(frames), frames, 2), frames, 8, floor=1e-6)
    assert np.count_nonzero(found.means[:, 0] > 25) == 1
    assert found.weights[found.means[:, 0] > 25] == pytest.approx(0.5)


@pytest.mark.parametrize("count", [0, 3, 12, 100])
@pytest.mark.parametrize("components", [1, 2, 5, 64])
def test_any_sample_gives_the_wanted_number(count: int, components: int) -> None:
    frames = np.random.default_rng(2).standard_normal((count, 4))
    control = np.ones((1, 4))
    start = GaussianMixture.from_covariances([1.0], np.zeros((1, 4)), control, control)
    found = divide(start, frames, components)
    assert found.components == components
    assert found.weights.sum() == pytest.approx(1)
    assert found.variance_control is not None
    if count == 0:
        assert np.array_equal(found.means, _doubled(start, components).means)


def _doubled(mixture: GaussianMixture, components: int) -> GaussianMixture:
    while mixture.components < components:
        mixture = split(mixture, min(components, 2 * mixture.components))
    return mixture


def test_threads_do_not_change_a_bit() -> None:
    frames = clusters(np.random.default_rng(3).standard_normal((20, 6)) * 5, 600)
    start = divide(one(frames), frames, 8)
    results = [divide(start, frames, 16, threads=threads) for threads in (1, 2, 5)]
    for other in results[1:]:
        assert np.array_equal(results[0].means, other.means)
        assert np.array_equal(results[0].precisions, other.precisions)
        assert np.array_equal(results[0].weights, other.weights)


def test_the_floor_holds() -> None:
    frames = clusters(np.array([[0.0, 0.0], [40.0, 0.0]]), 300)
    found = divide(one(frames), frames, 4, floor=0.01)
    assert (found.covariances >= 0.01 * one(frames).covariances * (1 - 1e-12)).all()


@pytest.mark.parametrize("seed", range(5))
def test_it_ends_better_than_sidekits_way_where_clusters_are_of_many_sizes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((40, 8)) * 4
    sizes = rng.integers(20, 400, 40)
    frames = np.repeat(means, sizes, axis=0) + rng.standard_normal((sizes.sum(), 8))
    held = np.repeat(means, sizes, axis=0) + rng.standard_normal((sizes.sum(), 8))
    ends = {}
    for method in ("principal", "sidekit"):
        settings = TrainingSettings(method=method)
        mixture, _ = train(frames, 32, [2, 4, 4, 8, 8], settings=settings)
        ends[method] = accumulate(mixture, held).log_likelihood_per_frame
    assert ends["principal"] > ends["sidekit"] + 0.05


@pytest.mark.parametrize(("components", "full"), [(1, False), (4, True)])
def test_what_cannot_be_divided_is_refused(components: int, full: bool) -> None:
    identity = np.broadcast_to(np.eye(2), (2, 2, 2)) if full else np.ones((2, 2))
    mixture = GaussianMixture([0.5, 0.5], np.zeros((2, 2)), identity)
    with pytest.raises(ValueError, match="cannot be divided"):
        divide(mixture, np.zeros((9, 2)), components)


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(2, 9))
@settings(max_examples=40, deadline=None)
def test_the_order_of_frames_does_not_matter(seed: int, dimension: int, components: int) -> None:
    """Rounding swaps no halves, not even in two dimensions, whose principal axis has no largest."""
    rng = np.random.default_rng(seed)
    frames = rng.gamma(2.0, size=(200, dimension)) @ rng.normal(size=(dimension, dimension))
    first, second = (
        divide(one(values), values, components) for values in (frames, frames[rng.permutation(200)])
    )
    np.testing.assert_allclose(
        first.means, second.means, rtol=1e-9, atol=1e-9 * np.abs(frames).max()
    )


def drawn(components: int, seed: int) -> GaussianMixture:
    rng = np.random.default_rng(seed)
    return GaussianMixture.from_covariances(
        rng.dirichlet(np.ones(components)),
        rng.normal(size=(components, 3)),
        rng.gamma(2.0, size=(components, 3)),
    )


@given(st.integers(2, 20), st.integers(1, 20), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_pairs_that_lose_least_are_merged(before: int, after: int, seed: int) -> None:
    """All pairs are looked at again for each merge here."""
    mixture = drawn(before, seed)
    parts = list(zip(mixture.weights, mixture.means, mixture.covariances, strict=True))
    while len(parts) > after:
        pairs = []
        for i, (weight, mean, variances) in enumerate(parts):
            for j, (other_weight, other_mean, other_variances) in enumerate(parts[:i]):
                both = weight + other_weight
                centre = (weight * mean + other_weight * other_mean) / both
                second = weight * (variances + mean**2)
                second += other_weight * (other_variances + other_mean**2)
                spread = second / both - centre**2
                loss = both * np.log(spread).sum() - weight * np.log(variances).sum()
                loss -= other_weight * np.log(other_variances).sum()
                pairs.append((loss, i, j, (both, centre, spread)))
        _, i, j, merged = min(pairs, key=lambda pair: pair[0])
        del parts[i]
        parts[j] = merged
    found = merge(mixture, min(before, after))
    order, expected = np.argsort(found.weights), sorted(parts, key=lambda part: part[0])
    for values, name in enumerate(("weights", "means", "covariances")):
        known = np.array([part[values] for part in expected])
        np.testing.assert_allclose(getattr(found, name)[order], known, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.overall_mean, mixture.overall_mean, atol=1e-12)
    np.testing.assert_allclose(found.overall_variance, mixture.overall_variance)
