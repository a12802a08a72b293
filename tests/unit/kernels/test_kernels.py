"""Pruning, groups of components and blocks against the exact E-step."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import (
    crowded,
    in_unit,
    narrow_and_wide,
    noisy_with_silence,
    overlapping,
    shifted,
    trained,
    with_frame,
)

from gmmcore.config.steps import MStep
from gmmcore.core import density
from gmmcore.core.estep import Statistics, accumulate, pack
from gmmcore.core.frames import ArraySource
from gmmcore.core.initial import one_gaussian, split, to_full
from gmmcore.core.kernels import lost_digits, make_kernel
from gmmcore.core.kernels.diagonal import DiagonalKernel
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.moments import Moments
from gmmcore.core.mstep import maximise

FREE = MStep(floor=0.0, ceiling=np.inf, occupancy=0.0)
DEFAULT_PRUNING = 2e-8  # the default of the configuration
# Dense blocks: whether covariances are full, and whether a reference serves them.
WAYS = [(False, True), (False, False), (True, False)]


@pytest.fixture(autouse=True)
def _skipping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Components are skipped in these small mixtures too, where it would not pay."""
    monkeypatch.setattr(DiagonalKernel, "largest_share", 0.5)


def assert_same(one: Statistics, other: Statistics) -> None:
    assert one.log_likelihood == other.log_likelihood
    for name in ("count", "first", "second"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


# 130 components do not fill the last group.
@pytest.mark.parametrize(("components", "full"), [(130, False), (256, False), (128, True)])
def test_default_pruning_is_within_its_bounds(components, full):
    frames, mixture = trained(components, full)
    exact = accumulate(mixture, frames)
    pruned = accumulate(mixture, frames, pruning=DEFAULT_PRUNING)
    # What is left out can only lower it.
    lost = exact.log_likelihood_per_frame - pruned.log_likelihood_per_frame
    assert 0 < lost < 50 * DEFAULT_PRUNING
    assert (exact.count - pruned.count < DEFAULT_PRUNING * len(frames)).all()
    a, b = (maximise(mixture, s, FREE).mixture for s in (exact, pruned))
    used = exact.count >= MStep().occupancy  # others keep their parameters
    assert used.sum() > 0.9 * components
    np.testing.assert_allclose(b.weights[used], a.weights[used], rtol=1e-5)
    variances = a.covariances.diagonal(0, 1, 2) if full else a.covariances
    deviations = np.sqrt(variances)
    assert (np.abs(b.means - a.means) / deviations)[used].max() < 1e-5
    if full:
        scale = deviations[:, :, np.newaxis] * deviations[:, np.newaxis, :]
        assert (np.abs(b.covariances - a.covariances) / scale)[used].max() < 1e-5
    else:
        assert (np.abs(b.covariances - a.covariances) / variances)[used].max() < 1e-5


@pytest.mark.parametrize("full", [False, True])
def test_loose_pruning_leaves_out_at_most_what_it_says(full):
    frames, mixture = trained(128, full)
    pruning = 1e-3
    exact = accumulate(mixture, frames)
    pruned = accumulate(mixture, frames, pruning=pruning)
    posteriors = density.posteriors(mixture, frames)
    small = np.where(posteriors < pruning, posteriors, 0.0).sum(axis=0)
    # The small ones are gone; the others may have grown by what was skipped.
    assert (exact.count - pruned.count <= small * 1.0001 + 1e-9).all()
    assert pruned.count.sum() < exact.count.sum() - 0.5 * small.sum()
    assert pruned.count.sum() <= len(frames)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("precision", ["single", "double"])
def test_bits_with_pruning_do_not_depend_on_threads(full, precision):
    frames, mixture = trained(128, full)
    frames = np.concatenate([frames, frames[:17_111]])
    results = [
        accumulate(mixture, frames, precision=precision, pruning=DEFAULT_PRUNING, threads=threads)
        for threads in (1, 2, 3)
    ]
    assert_same(results[0], results[1])
    assert_same(results[0], results[2])


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("frames_given", [1, 3, 1025, 2049])
def test_blocks_that_are_not_full(full, frames_given):
    frames, mixture = trained(128, full)
    frames = frames[:frames_given]
    posteriors = density.posteriors(mixture, frames)
    for pruning in (0.0, 1e-12):
        statistics = accumulate(mixture, frames, pruning=pruning)
        centred = frames - statistics.origin
        if full:
            products = centred[:, :, np.newaxis] * centred[:, np.newaxis, :]
            products = pack(products)
        else:
            products = centred**2
        np.testing.assert_allclose(statistics.count, posteriors.sum(axis=0), atol=1e-9)
        np.testing.assert_allclose(statistics.first, posteriors.T @ centred, atol=1e-8)
        np.testing.assert_allclose(statistics.second, posteriors.T @ products, atol=1e-8)
        expected = density.log_likelihood(mixture, frames).sum()
        assert statistics.log_likelihood == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("full", [False, True])
def test_where_all_components_count_none_is_passed_over(full):
    frames, mixture = overlapping(full)
    assert make_kernel(mixture, "double", 1e-7).grouped
    exact, pruned = (accumulate(mixture, frames, pruning=p) for p in (0.0, 1e-7))
    np.testing.assert_allclose(pruned.second, exact.second, rtol=1e-12)
    assert pruned.log_likelihood == pytest.approx(exact.log_likelihood, rel=1e-14)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("precision", ["single", "double"])
def test_frames_that_are_not_finite_are_refused_with_pruning(bad, full, precision):
    frames, mixture = trained(128, full)
    frames = frames[:3000].copy()
    frames[2500, 3] = bad
    with pytest.raises(FloatingPointError, match="not finite"):
        accumulate(mixture, frames, precision=precision, pruning=DEFAULT_PRUNING)


@pytest.mark.parametrize("pruning", [0.0, 1e-7])
@pytest.mark.parametrize("full", [False, True])
def test_an_outlier_counts_for_the_component_it_is_nearest_to(pruning, full):
    frames, mixture = with_frame(trained(128, full), 300.0)
    exact = density.log_likelihood(mixture, frames).sum()
    statistics = accumulate(mixture, frames, precision="single", pruning=pruning)
    assert statistics.log_likelihood == pytest.approx(exact, rel=1e-6)
    assert statistics.count.sum() == pytest.approx(501, abs=1e-3)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("value", [1e4, 1e5, 1e6])
def test_a_frame_so_far_that_the_threshold_is_lost_in_rounding_counts(value, full):
    frames, mixture = with_frame(trained(128, full), value)
    assert density.log_likelihood(mixture, frames[-1:]) < -(2.0**28)
    exact = accumulate(mixture, frames)
    pruned = accumulate(mixture, frames, precision="single", pruning=DEFAULT_PRUNING)
    assert pruned.log_likelihood == pytest.approx(exact.log_likelihood, rel=1e-5)
    assert pruned.count.sum() == pytest.approx(501, abs=1e-2)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_single_with_pruning_keeps_the_log_likelihood(full, shift):
    frames, mixture = shifted(trained(128, full), shift)
    double = accumulate(mixture, frames)
    single = accumulate(mixture, frames, precision="single", pruning=DEFAULT_PRUNING)
    assert single.log_likelihood_per_frame == pytest.approx(
        double.log_likelihood_per_frame, abs=1e-5
    )


@pytest.mark.parametrize("full", [False, True])
def test_what_single_precision_loses_is_bounded(full):
    frames = noisy_with_silence()
    mixture = one_gaussian(Moments.of(frames))
    errors, bounds = [], []
    while mixture.components < 16:
        mixture = split(mixture)
        for _ in range(4):
            lost = lost_digits(mixture, "single", 0.0)
            single = accumulate(mixture, frames, precision="single")
            exact = accumulate(mixture, frames)
            mixture = maximise(mixture, single, MStep(floor=1e-4)).mixture
            errors.append(single.log_likelihood_per_frame - exact.log_likelihood_per_frame)
            bounds.append(lost)
            assert lost_digits(mixture, "double", 0.0) < 1e-6 * lost
        if full and mixture.components == 8:
            mixture = to_full(mixture)
    assert np.abs(errors).max() > 1e-5  # more than a millionth of the log-likelihood
    assert (np.abs(errors) < 0.5 * np.array(bounds)).all()


def test_a_component_with_most_frames_keeps_the_digits_of_its_variances():
    frames, mixture = crowded()
    kernel = make_kernel(mixture, "single", DEFAULT_PRUNING)
    kernel.prepare(ArraySource(frames))
    assert (kernel.dtype, kernel.is_sparse) == (np.float32, True)
    exact, sparse = (
        maximise(mixture, accumulate(mixture, frames, precision=precision, pruning=p), FREE).mixture
        for precision, p in (("double", 0.0), ("single", DEFAULT_PRUNING))
    )
    np.testing.assert_allclose(sparse.covariances, exact.covariances, rtol=5e-3)


@pytest.mark.parametrize(("full", "referenced"), WAYS)
def test_no_denormal_numbers_reach_the_products(full, referenced):
    frames, mixture = trained(64, full)
    kernel = make_kernel(mixture, "single", 0.0)
    kernel.is_referenced = referenced
    logs = kernel.expand(frames[:256]).T @ kernel.coefficients
    assert logs.min() < logs.max() - 110  # exp() alone would give some
    total = np.zeros((kernel.width, kernel.padded_components)).T
    kernel.dense(frames[:256], total, *np.empty((2, 256), np.float32))
    assert kernel.buffer("logs", (256, 64)).min() > 1e-35


@pytest.mark.parametrize(("full", "referenced"), WAYS)
@pytest.mark.parametrize("precision", ["single", "double"])
def test_frames_far_from_the_overall_gaussian(full, precision, referenced):
    frames, mixture = narrow_and_wide(full)
    kernel = make_kernel(mixture, precision, 0.0)
    assert kernel.dtype == (np.float32 if precision == "single" else np.float64)
    kernel.is_referenced = referenced
    total = np.empty(kernel.padded_components * kernel.width)
    log_likelihood = kernel.sums(ArraySource(frames), 0, len(frames), total)
    count, first, _ = kernel.finish(kernel.arranged(total))
    rtol = 2e-6 if precision == "single" else 1e-12
    posteriors = density.posteriors(mixture, frames)
    np.testing.assert_allclose(count, posteriors.sum(axis=0), rtol=rtol)
    centred = frames - kernel.origin
    np.testing.assert_allclose(first, posteriors.T @ centred, atol=rtol * len(frames))
    expected = density.log_likelihood(mixture, frames).sum()
    assert log_likelihood == pytest.approx(expected, rel=rtol)


def test_some_frames_are_far_from_the_overall_gaussian():
    """What the test above is about does occur in it."""
    frames, mixture = narrow_and_wide(False)
    kernel = make_kernel(mixture, "single", 0.0)
    with np.errstate(over="ignore"):
        sums = np.exp(kernel.expand(frames[:512]).T @ kernel.relative).sum(axis=1)
    far = ~((sums > kernel.least_sum) & (sums < kernel.largest_sum))
    assert 0.005 < far.mean() < 0.2


def test_the_way_is_chosen_by_the_frames():
    frames, mixture = trained(128, False)
    kernel = make_kernel(mixture, "single", DEFAULT_PRUNING)
    kernel.prepare(ArraySource(frames))
    assert kernel.is_sparse
    kernel = make_kernel(mixture, "single", 0.0)
    kernel.prepare(ArraySource(frames))
    assert not kernel.is_sparse
    assert kernel.is_referenced
    kernel.prepare(ArraySource(frames * np.float32(10)))
    assert not kernel.is_referenced
    # Most components count for every frame: nothing to pass over.
    soft = GaussianMixture(mixture.weights, 0.01 * mixture.means, mixture.precisions)
    kernel = make_kernel(soft, "single", DEFAULT_PRUNING)
    kernel.prepare(ArraySource(frames))
    assert not kernel.is_sparse


@pytest.mark.parametrize("full", [False, True])
def test_both_ways_through_a_block_agree(full, monkeypatch):
    frames, mixture = trained(128, full)
    kind = type(make_kernel(mixture, "double", DEFAULT_PRUNING))
    monkeypatch.setattr(kind, "largest_share", 1.0)
    sparse = accumulate(mixture, frames, pruning=DEFAULT_PRUNING)
    monkeypatch.setattr(kind, "largest_share", 0.0)
    dense = accumulate(mixture, frames, pruning=DEFAULT_PRUNING)
    assert 0 < dense.log_likelihood - sparse.log_likelihood < 1e-6 * len(frames)
    np.testing.assert_allclose(sparse.count, dense.count, atol=DEFAULT_PRUNING * len(frames))
    assert_same(dense, accumulate(mixture, frames))


@pytest.mark.parametrize("dimension", [60, 600, 6000])
def test_buffers_are_bounded_in_any_dimension(dimension):
    ones = np.ones((2, dimension))
    kernel = make_kernel(GaussianMixture(np.array([0.5, 0.5]), ones, ones), "single", 0.0)
    assert kernel.block * max(kernel.padded_components, kernel.width) <= 1 << 22
    assert kernel.block == {60: 2048, 600: 2048, 6000: 256}[dimension]


def test_unknown_options_are_refused():
    mixture = trained(64, False)[1]
    with pytest.raises(ValueError, match="'half'"):
        make_kernel(mixture, "half", 0.0)
    for pruning in (-1e-9, 1.0, float("nan")):
        with pytest.raises(ValueError, match="pruning"):
            make_kernel(mixture, "single", pruning)


@pytest.mark.parametrize("unit", [1e-12, 1e-3, 1.0, 1e3, 1e12])
@pytest.mark.parametrize("full", [False, True])
def test_the_unit_of_the_features_does_not_matter(unit, full):
    frames, mixture = trained(64, full)
    scaled, moved = in_unit((frames, mixture), unit)
    assert make_kernel(moved, "single", 0.0).dtype == np.float32
    here = accumulate(mixture, frames[:5000], precision="single")
    there = accumulate(moved, scaled[:5000], precision="single")
    expected = here.log_likelihood_per_frame - 12 * np.log(unit)
    assert there.log_likelihood_per_frame == pytest.approx(expected, abs=2e-5)
    np.testing.assert_allclose(there.count, here.count, rtol=1e-3)


def test_variances_too_small_for_single_precision_are_worked_on_in_double():
    rng = np.random.default_rng(22)
    means = rng.standard_normal((4, 3))
    narrow = GaussianMixture.from_covariances(np.full(4, 0.25), means, np.full((4, 3), 1e-7))
    assert make_kernel(narrow, "single", 0.0).dtype == np.float64
