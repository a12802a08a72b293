"""Sums that leave out components, against those with all of them."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import crowded, overlapping, shifted, trained, with_frame

from gmmcore.core import density, pruned
from gmmcore.core import sums as summing
from gmmcore.core.estep import accumulate, parts, statistics_over, sums_under
from gmmcore.core.frames import ArraySource
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.mstep import maximise
from gmmcore.core.pruned import PrunedSums
from gmmcore.core.settings import MStep
from gmmcore.core.sums import Statistics, Sums

FREE = MStep(floor=0.0, ceiling=np.inf, occupancy=0.0)
DEFAULT_PRUNING = 2e-8  # the default of the configuration


@pytest.fixture(autouse=True)
def _passing_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Components are passed over in these small mixtures too, where it would not pay."""
    monkeypatch.setitem(pruned._LARGEST_SHARE, False, 0.5)


def assert_same(one: Statistics, other: Statistics) -> None:
    assert one.log_likelihood == other.log_likelihood
    for name in ("count", "first", "second"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


# 130 components do not fill the last group.
@pytest.mark.parametrize(("components", "full"), [(130, False), (256, False), (128, True)])
def test_default_pruning_is_within_its_bounds(components, full):
    frames, mixture = trained(components, full)
    assert isinstance(sums_under(mixture, "double", DEFAULT_PRUNING), PrunedSums)
    exact = accumulate(mixture, frames)
    found = accumulate(mixture, frames, pruning=DEFAULT_PRUNING)
    # What is left out can only lower it.
    lost = exact.log_likelihood_per_frame - found.log_likelihood_per_frame
    assert 0 < lost < 50 * DEFAULT_PRUNING
    assert (exact.count - found.count < DEFAULT_PRUNING * len(frames)).all()
    a, b = (maximise(mixture, s, FREE).mixture for s in (exact, found))
    used = exact.count >= MStep().occupancy  # others keep their parameters
    assert used.sum() > 0.9 * components
    np.testing.assert_allclose(b.weights[used], a.weights[used], rtol=1e-5)
    variances = a.covariances.diagonal(0, 1, 2) if full else a.covariances
    deviations = np.sqrt(variances)
    assert (np.abs(b.means - a.means) / deviations)[used].max() < 1e-5
    scale = deviations[:, :, np.newaxis] * deviations[:, np.newaxis, :] if full else variances
    assert (np.abs(b.covariances - a.covariances) / scale)[used].max() < 1e-5


@pytest.mark.parametrize("full", [False, True])
def test_loose_pruning_leaves_out_at_most_what_it_says(full):
    frames, mixture = trained(128, full)
    pruning = 1e-3
    exact = accumulate(mixture, frames)
    found = accumulate(mixture, frames, pruning=pruning)
    posteriors = density.posteriors(mixture, frames)
    small = np.where(posteriors < pruning, posteriors, 0.0).sum(axis=0)
    # The small ones are gone; the others may have grown by what was passed over.
    assert (exact.count - found.count <= small * 1.0001 + 1e-9).all()
    assert found.count.sum() < exact.count.sum() - 0.5 * small.sum()
    assert found.count.sum() <= len(frames)


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
def test_where_all_components_count_none_is_passed_over(full):
    frames, mixture = overlapping(full)
    chosen = parts(ArraySource(frames))
    exact, found = (
        statistics_over(sums, chosen, map)
        for sums in (Sums(mixture, "double"), PrunedSums(mixture, "double", 1e-7))
    )
    np.testing.assert_allclose(found.second, exact.second, rtol=1e-12)
    assert found.log_likelihood == pytest.approx(exact.log_likelihood, rel=1e-14)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("precision", ["single", "double"])
def test_frames_that_are_not_finite_are_refused_and_named(bad, full, precision):
    frames, mixture = trained(128, full)
    frames = frames[:5000].copy()
    frames[2500, 3] = bad
    with pytest.raises(FloatingPointError, match="frames 2048 to 4096 is not finite"):
        accumulate(mixture, frames, precision=precision, pruning=DEFAULT_PRUNING)


@pytest.mark.parametrize("full", [False, True])
def test_an_outlier_counts_for_the_component_it_is_nearest_to(full):
    frames, mixture = with_frame(trained(128, full), 300.0)
    exact = density.log_likelihood(mixture, frames).sum()
    found = accumulate(mixture, frames, precision="single", pruning=1e-7)
    assert found.log_likelihood == pytest.approx(exact, rel=1e-6)
    assert found.count.sum() == pytest.approx(501, abs=1e-3)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("value", [1e4, 1e5, 1e6])
def test_a_frame_so_far_that_the_threshold_is_lost_in_rounding_counts(value, full):
    frames, mixture = with_frame(trained(128, full), value)
    assert density.log_likelihood(mixture, frames[-1:]) < -(2.0**28)
    exact = accumulate(mixture, frames)
    found = accumulate(mixture, frames, precision="single", pruning=DEFAULT_PRUNING)
    assert found.log_likelihood == pytest.approx(exact.log_likelihood, rel=1e-5)
    assert found.count.sum() == pytest.approx(501, abs=1e-2)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_single_with_pruning_keeps_the_log_likelihood(full, shift):
    frames, mixture = shifted(trained(128, full), shift)
    double = accumulate(mixture, frames)
    single = accumulate(mixture, frames, precision="single", pruning=DEFAULT_PRUNING)
    assert single.log_likelihood_per_frame == pytest.approx(
        double.log_likelihood_per_frame, abs=1e-5
    )


def test_a_component_with_most_frames_keeps_the_digits_of_its_variances(monkeypatch):
    monkeypatch.setattr(summing, "_SINGLE_LOSS", np.inf)
    frames, mixture = crowded()
    sums = sums_under(mixture, "single", DEFAULT_PRUNING)
    assert isinstance(sums, PrunedSums)
    assert sums.dtype == np.float32
    exact, found = (
        maximise(mixture, accumulate(mixture, frames, precision=precision, pruning=p), FREE).mixture
        for precision, p in (("double", 0.0), ("single", DEFAULT_PRUNING))
    )
    np.testing.assert_allclose(found.covariances, exact.covariances, rtol=5e-3)


def test_the_way_is_chosen_by_the_mixture():
    mixture = trained(128, False)[1]
    assert type(sums_under(mixture, "single", DEFAULT_PRUNING)) is PrunedSums
    assert type(sums_under(mixture, "single", 0.0)) is Sums
    assert type(sums_under(trained(64, False)[1], "single", DEFAULT_PRUNING)) is Sums
    # Most components count for every frame: nothing to pass over.
    soft = GaussianMixture(mixture.weights, 0.01 * mixture.means, mixture.precisions)
    assert type(sums_under(soft, "single", DEFAULT_PRUNING)) is Sums


@pytest.mark.parametrize("full", [False, True])
def test_both_ways_through_a_block_agree(full, monkeypatch):
    frames, mixture = trained(128, full)
    chosen = parts(ArraySource(frames))
    found = []
    for share in (1.0, 0.0):
        monkeypatch.setitem(pruned._LARGEST_SHARE, full, share)
        found.append(statistics_over(PrunedSums(mixture, "double", DEFAULT_PRUNING), chosen, map))
    sparse, dense = found
    assert 0 < dense.log_likelihood - sparse.log_likelihood < 1e-6 * len(frames)
    np.testing.assert_allclose(sparse.count, dense.count, atol=DEFAULT_PRUNING * len(frames))
    exact = accumulate(mixture, frames)
    assert dense.log_likelihood == pytest.approx(exact.log_likelihood, rel=1e-14)
    np.testing.assert_allclose(dense.second, exact.second, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("full", [False, True])
def test_the_log_likelihood_alone_has_all_components(full):
    frames, mixture = trained(128, full)
    source = ArraySource(frames)
    found = PrunedSums(mixture, "double", 1e-3).log_likelihood(source)
    expected = density.log_likelihood(mixture, frames).sum()
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("full", [False, True])
def test_frames_that_cannot_be_read_leave_nothing_for_the_next_ones(full):
    """Blocks of full covariances wait until there are enough of them."""

    class Broken(ArraySource):
        def read(self, start, stop):
            if start >= 4096:
                raise OSError("gone")
            return super().read(start, stop)

    frames, mixture = trained(128, full)
    sums = PrunedSums(mixture, "double", DEFAULT_PRUNING)
    expected = sums.over(ArraySource(frames[:3000]))
    with pytest.raises(OSError, match="gone"):
        sums.over(Broken(frames))
    np.testing.assert_array_equal(sums.over(ArraySource(frames[:3000])), expected)


@pytest.mark.parametrize(("dimension", "block"), [(60, 2048), (600, 2048), (6000, 256)])
def test_buffers_are_bounded_in_any_dimension(dimension, block):
    ones = np.ones((128, dimension))
    mixture = GaussianMixture(np.full(128, 1 / 128), ones, ones)
    sums = PrunedSums(mixture, "single", DEFAULT_PRUNING)
    assert sums.block * max(sums.shape) <= 1 << 22
    assert sums.block == block
