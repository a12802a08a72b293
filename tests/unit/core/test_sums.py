"""The sums of the E-step with all components, against the exact densities."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import (
    in_unit,
    narrow_and_wide,
    noisy_with_silence,
    shifted,
    trained,
    with_frame,
)

from gmmcore.core import density, pruned
from gmmcore.core import sums as summing
from gmmcore.core.estep import accumulate, lost_digits, parts, statistics_over, sums_under
from gmmcore.core.frames import ArraySource
from gmmcore.core.initial import one_gaussian, split
from gmmcore.core.kinds import to_kind
from gmmcore.core.mixture import GaussianMixture, pack
from gmmcore.core.moments import Moments
from gmmcore.core.mstep import maximise
from gmmcore.core.settings import MStep
from gmmcore.core.sums import Sums


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
            products = pack(centred[:, :, np.newaxis] * centred[:, np.newaxis, :])
        else:
            products = centred**2
        np.testing.assert_allclose(statistics.count, posteriors.sum(axis=0), atol=1e-9)
        np.testing.assert_allclose(statistics.centred_first, posteriors.T @ centred, atol=1e-8)
        np.testing.assert_allclose(statistics.centred_second, posteriors.T @ products, atol=1e-8)
        expected = density.log_likelihood(mixture, frames).sum()
        assert statistics.log_likelihood == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("precision", ["single", "double"])
def test_components_of_no_weight_that_fill_the_last_group_change_nothing(full, precision):
    frames, mixture = trained(130, full)
    chosen = parts(ArraySource(frames))
    found, expected = (
        statistics_over(Sums(mixture, precision, padding=padding), chosen, map)
        for padding in (4, 1)
    )
    assert found.count.shape == (130,)
    rtol = 1e-12 if precision == "double" else 2e-5
    assert found.log_likelihood == pytest.approx(expected.log_likelihood, rel=rtol)
    np.testing.assert_allclose(
        found.centred_second, expected.centred_second, rtol=rtol, atol=rtol * len(frames)
    )


@pytest.mark.parametrize("full", [False, True])
def test_an_outlier_counts_for_the_component_it_is_nearest_to(full):
    frames, mixture = with_frame(trained(128, full), 300.0)
    exact = density.log_likelihood(mixture, frames).sum()
    statistics = accumulate(mixture, frames, precision="single")
    assert statistics.log_likelihood == pytest.approx(exact, rel=1e-6)
    assert statistics.count.sum() == pytest.approx(501, abs=1e-3)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_single_precision_keeps_the_log_likelihood(full, shift):
    frames, mixture = shifted(trained(128, full), shift)
    double = accumulate(mixture, frames)
    single = accumulate(mixture, frames, precision="single")
    assert single.log_likelihood_per_frame == pytest.approx(
        double.log_likelihood_per_frame, abs=1e-5
    )


@pytest.mark.parametrize("full", [False, True])
def test_what_single_precision_loses_is_bounded(full, monkeypatch):
    monkeypatch.setattr(summing, "_SINGLE_LOSS", np.inf)
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
            mixture = to_kind(mixture, "full")
    assert np.abs(errors).max() > 1e-5  # more than a millionth of the log-likelihood
    assert (np.abs(errors) < 0.75 * np.array(bounds)).all()
    assert np.median(np.abs(errors) / bounds) < 0.25


def test_the_bound_counts_what_pruning_loses(monkeypatch):
    monkeypatch.setitem(pruned._LARGEST_SHARE, False, 0.5)
    mixture = trained(128, False)[1]
    more = lost_digits(mixture, "single", 2e-8) - lost_digits(mixture, "single", 0.0)
    assert more == pytest.approx(1e-6)


@pytest.mark.parametrize("full", [False, True])
def test_no_denormal_numbers_reach_the_products(full):
    frames, mixture = trained(64, full)
    sums = Sums(mixture, "single")
    products, densities, _, _ = sums.densities(frames[:256])
    logs = products.T @ sums.coefficients
    assert logs.min() < logs.max() - 110  # exp() alone would give some
    assert densities.min() > 1e-35


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("precision", ["single", "double"])
def test_frames_far_from_the_overall_gaussian(full, precision, monkeypatch):
    monkeypatch.setattr(summing, "_SINGLE_LOSS", np.inf)
    frames, mixture = narrow_and_wide(full)
    sums = sums_under(mixture, precision, 0.0)
    assert sums.dtype == (np.float32 if precision == "single" else np.float64)
    found = statistics_over(sums, parts(ArraySource(frames)), map)
    rtol = 2e-6 if precision == "single" else 1e-12
    posteriors = density.posteriors(mixture, frames)
    np.testing.assert_allclose(found.count, posteriors.sum(axis=0), rtol=rtol)
    centred = frames - found.origin
    np.testing.assert_allclose(found.centred_first, posteriors.T @ centred, atol=rtol * len(frames))
    expected = density.log_likelihood(mixture, frames).sum()
    assert found.log_likelihood == pytest.approx(expected, rel=rtol)


@pytest.mark.parametrize("dimension", [60, 600, 6000])
def test_buffers_are_bounded_in_any_dimension(dimension):
    ones = np.ones((2, dimension))
    sums = Sums(GaussianMixture([0.5, 0.5], ones, ones), "single")
    assert sums.block * max(sums.shape) <= 1 << 22
    assert sums.block == {60: 1024, 600: 1024, 6000: 256}[dimension]


def test_unknown_options_are_refused():
    mixture = trained(64, False)[1]
    with pytest.raises(ValueError, match="'half'"):
        sums_under(mixture, "half", 0.0)
    for pruning in (-1e-9, 1.0, float("nan")):
        with pytest.raises(ValueError, match="pruning"):
            sums_under(mixture, "single", pruning)
    for device in ("gpu", "auto", "CPU", None):
        with pytest.raises(ValueError, match="'cpu' or 'cuda' was expected"):
            sums_under(mixture, "single", 0.0, device)


@pytest.mark.parametrize("unit", [1e-12, 1e-3, 1.0, 1e3, 1e12])
@pytest.mark.parametrize("full", [False, True])
def test_the_unit_of_the_features_does_not_matter(unit, full):
    frames, mixture = trained(64, full)
    scaled, moved = in_unit((frames, mixture), unit)
    assert sums_under(moved, "single", 0.0).dtype == np.float32
    here = accumulate(mixture, frames[:5000], precision="single")
    there = accumulate(moved, scaled[:5000], precision="single")
    expected = here.log_likelihood_per_frame - 12 * np.log(unit)
    assert there.log_likelihood_per_frame == pytest.approx(expected, abs=2e-5)
    np.testing.assert_allclose(there.count, here.count, rtol=1e-3)


def test_variances_too_small_for_single_precision_are_worked_on_in_double():
    rng = np.random.default_rng(22)
    means = rng.standard_normal((4, 3))
    narrow = GaussianMixture.from_covariances(np.full(4, 0.25), means, np.full((4, 3), 1e-7))
    assert sums_under(narrow, "single", 0.0).dtype == np.float64


def test_single_precision_is_used_where_it_loses_little():
    """Columns of few values have tight components, whose log-likelihoods lose digits."""
    for tight, dtype in ((1e-3, np.float32), (1e-4, np.float64)):
        mixture = GaussianMixture.from_covariances(
            [0.5, 0.5], [[0.0, 0.0], [2.0, 0.0]], [[tight, 1.0], [1.0, 1.0]]
        )
        assert sums_under(mixture, "single", 0.0).dtype == dtype
        assert lost_digits(mixture, "single", 0.0) < 3e-4
