"""The E-step against closed forms, scikit-learn and itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from gmmcore.core import density
from gmmcore.core.estep import accumulate
from gmmcore.core.frames import ArraySource
from gmmcore.core.initial import one_gaussian, split
from gmmcore.core.kinds import to_kind
from gmmcore.core.mixture import GaussianMixture, pack, unpack
from gmmcore.core.moments import Moments
from gmmcore.core.mstep import maximise
from gmmcore.core.settings import MStep
from gmmcore.core.sums import Statistics
from gmmcore.errors import GmmcoreError

FREE = MStep(floor=0.0, ceiling=np.inf, occupancy=0.0)


def correlated(rng: np.random.Generator, frames: int, dimension: int) -> np.ndarray:
    mixing = np.eye(dimension) + 0.3 * rng.standard_normal((dimension, dimension))
    return rng.standard_normal((frames, dimension)) @ mixing + rng.integers(0, 4, (frames, 1))


def start(frames: np.ndarray, components: int, full: bool) -> GaussianMixture:
    mixture = one_gaussian(Moments.of(frames))
    while mixture.components < components:
        mixture = split(mixture)
    return to_kind(mixture, "full") if full else mixture


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_one_step_equals_scikit_learn(full, shift):
    sklearn_mixture = pytest.importorskip("sklearn.mixture")
    from sklearn.exceptions import ConvergenceWarning

    frames = correlated(np.random.default_rng(1), 4000, 6) + shift
    mixture = start(frames, 8, full)
    peer = sklearn_mixture.GaussianMixture(
        8,
        covariance_type="full" if full else "diag",
        reg_covar=0,
        tol=0,
        max_iter=1,
        weights_init=mixture.weights,
        means_init=mixture.means,
        precisions_init=mixture.precisions,
    )
    # About the frames' own mean, for it loses digits far from zero, which we do not.
    origin = frames.mean(axis=0)
    peer.means_init = mixture.means - origin
    with pytest.warns(ConvergenceWarning):
        peer.fit(frames - origin)
    statistics = accumulate(mixture, frames)
    updated = maximise(mixture, statistics, FREE).mixture
    np.testing.assert_allclose(updated.weights, peer.weights_, rtol=1e-10)
    np.testing.assert_allclose(
        updated.means - origin, peer.means_, rtol=1e-10, atol=1e-10 * max(1, shift)
    )
    np.testing.assert_allclose(updated.covariances, peer.covariances_, rtol=1e-10, atol=1e-12)
    assert statistics.log_likelihood_per_frame == pytest.approx(peer.lower_bound_, rel=1e-12)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("precision", ["single", "double"])
def test_bits_do_not_depend_on_threads(full, precision):
    frames = correlated(np.random.default_rng(2), 70_000, 5).astype(np.float32)
    mixture = start(frames.astype(float), 4, full)
    one = accumulate(mixture, frames, precision=precision, threads=1)
    for threads in (2, 3):
        more = accumulate(mixture, frames, precision=precision, threads=threads)
        assert more.log_likelihood == one.log_likelihood
        for name in ("count", "first", "second"):
            np.testing.assert_array_equal(getattr(more, name), getattr(one, name))


@pytest.mark.parametrize("full", [False, True])
def test_single_precision_far_from_the_origin(full):
    rng = np.random.default_rng(3)
    frames = correlated(rng, 20_000, 8)
    frames = (frames + 1000 * frames.std(axis=0)).astype(np.float32)
    mixture = start(frames.astype(float), 16, full)
    exact = accumulate(mixture, frames)
    single = accumulate(mixture, frames, precision="single")
    assert single.log_likelihood_per_frame == pytest.approx(
        exact.log_likelihood_per_frame, abs=1e-5
    )
    a, b = (maximise(mixture, s, FREE).mixture for s in (exact, single))
    np.testing.assert_allclose(a.covariances, b.covariances, rtol=1e-4, atol=1e-4)


def test_statistics_are_the_weighted_sums():
    rng = np.random.default_rng(4)
    frames = rng.standard_normal((300, 3)) + 5
    mixture = start(frames, 4, True)
    posteriors = density.posteriors(mixture, frames)
    statistics = accumulate(mixture, frames)
    centred = frames - statistics.origin
    np.testing.assert_allclose(statistics.count, posteriors.sum(axis=0))
    np.testing.assert_allclose(statistics.centred_first, posteriors.T @ centred, atol=1e-10)
    expected = np.einsum("fc,fi,fj->cij", posteriors, centred, centred)
    np.testing.assert_allclose(unpack(statistics.centred_second), expected, atol=1e-10)
    assert statistics.log_likelihood == pytest.approx(density.log_likelihood(mixture, frames).sum())


def test_parts_add_up_to_the_whole():
    frames = correlated(np.random.default_rng(5), 1000, 4)
    mixture = start(frames, 4, False)
    whole = accumulate(mixture, frames)
    parts = accumulate(mixture, frames[:300]) + accumulate(mixture, frames[300:])
    assert parts.frames == whole.frames
    np.testing.assert_allclose(parts.centred_second, whole.centred_second, rtol=1e-12)


def test_statistics_about_other_origins_are_refused():
    frames = correlated(np.random.default_rng(6), 100, 2)
    one, two = start(frames, 2, False), start(frames + 1, 2, False)
    with pytest.raises(ValueError, match="different origins"):
        accumulate(one, frames) + accumulate(two, frames)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("precision", ["single", "double"])
def test_frames_that_are_not_finite_are_refused(bad, precision):
    frames = correlated(np.random.default_rng(7), 100, 2)
    mixture = start(frames, 2, False)
    frames[50, 1] = bad
    with pytest.raises(FloatingPointError, match="not finite"):
        accumulate(mixture, frames, precision=precision)


def test_no_frames_give_empty_statistics():
    frames = correlated(np.random.default_rng(8), 100, 2)
    empty = accumulate(start(frames, 2, False), frames[:0])
    assert isinstance(empty, Statistics)
    assert empty.frames == 0
    assert empty.count.sum() == 0
    assert np.isnan(empty.log_likelihood_per_frame)


def test_packing_is_undone():
    rng = np.random.default_rng(9)
    matrices = rng.standard_normal((3, 5, 5))
    matrices = matrices + matrices.transpose(0, 2, 1)
    np.testing.assert_array_equal(unpack(pack(matrices)), matrices)


@pytest.mark.parametrize(("dimension", "condition"), [(3, 1e2), (60, 1e8), (200, 1e8)])
def test_full_densities_equal_scipy(dimension, condition):
    rng = np.random.default_rng(10)
    basis = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0]
    covariance = (basis * np.geomspace(1, 1 / condition, dimension)) @ basis.T
    covariance = (covariance + covariance.T) / 2
    mean = rng.standard_normal(dimension)
    deviations = np.sqrt(np.geomspace(1, 1 / condition, dimension))
    frames = mean + rng.standard_normal((50, dimension)) @ (basis * deviations).T
    mixture = GaussianMixture.from_covariances([1.0], [mean], [covariance])
    expected = multivariate_normal(mean, covariance).logpdf(frames)
    np.testing.assert_allclose(density.log_likelihood(mixture, frames), expected, rtol=1e-10)


@pytest.mark.parametrize("precision", ["single", "double"])
def test_extreme_variances_stay_finite(precision):
    variances = np.array([[1e-30, 1.0, 1e30], [1e30, 1.0, 1e-30]])
    mixture = GaussianMixture.from_covariances([0.5, 0.5], np.zeros((2, 3)), variances)
    frames = np.random.default_rng(11).standard_normal((20, 3)) * 1e-10
    logs = density.component_log_likelihoods(mixture, frames)
    expected = np.log(0.5) + np.stack(
        [-0.5 * (frames**2 / v + np.log(2 * np.pi * v)).sum(axis=1) for v in variances],
        axis=1,
    )
    np.testing.assert_allclose(logs, expected, rtol=1e-12)
    statistics = accumulate(mixture, frames, precision=precision)
    assert statistics.is_finite()
    assert statistics.log_likelihood == pytest.approx(
        density.log_likelihood(mixture, frames).sum(), rel=1e-6
    )


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("scale", [1e-41, 1e-30, 1e30])
@pytest.mark.parametrize("full", [False, True])
def test_frames_of_any_scale_are_trained_on(precision, scale, full):
    frames = np.random.default_rng(12).standard_normal((500, 3)).astype(np.float32)
    frames *= np.float32(scale)
    moments = frames.astype(np.float64)
    covariance = np.cov(moments.T) if full else moments.var(axis=0)
    mixture = GaussianMixture.from_covariances([1.0], [moments.mean(axis=0)], [covariance])
    statistics = accumulate(mixture, frames, precision=precision)
    expected = density.log_likelihood(mixture, frames).sum()
    assert statistics.log_likelihood == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "frames",
    [
        np.ma.array(np.zeros((4, 2)), mask=np.eye(4, 2)),
        np.zeros((4, 2), dtype=complex),
        np.zeros((4, 2), dtype=object),
        np.full((4, 2), "1"),
        np.zeros((4, 2), dtype="datetime64[s]"),
        [[0.0, 0.0], [0.0]],
    ],
)
def test_frames_that_are_no_real_numbers_are_refused(frames):
    mixture = GaussianMixture([1], [[0, 0]], [[1, 1]])
    for function in (accumulate, density.log_likelihood, density.posteriors):
        with pytest.raises(GmmcoreError, match=r"frames: .*expected"):
            function(mixture, frames)
    with pytest.raises(GmmcoreError, match=r"frames: .*expected"):
        ArraySource(frames)
