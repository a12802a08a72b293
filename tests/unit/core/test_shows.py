"""Statistics of shows, adapted means and scores, against loops over components in float64."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import trained

from gmmcore import (
    GaussianMixture,
    GmmcoreError,
    accumulate_shows,
    adapt_means,
    equal_error_rate,
    linear_scores,
    log_ratios,
)
from gmmcore.core import density
from gmmcore.core.estep import accumulate
from gmmcore.core.kinds import to_kind
from gmmcore.core.mixture import pack
from gmmcore.core.verification import error_rates

LENGTHS = (1, 3, 65, 250, 1024, 1025, 2900)
KINDS = ("spherical", "diag", "tied", "full")


def case(kind: str, offset: float = 0.0) -> tuple[list[tuple[str, np.ndarray]], GaussianMixture]:
    """Shows of several lengths, `offset` from zero, and a mixture."""
    frames, mixture = trained(32, False)
    moved = GaussianMixture(mixture.weights, mixture.means + offset, mixture.precisions)
    parts = np.split(frames[: sum(LENGTHS)] + np.float32(offset), np.cumsum(LENGTHS)[:-1])
    return [(f"s{i}", part) for i, part in enumerate(parts)], to_kind(moved, kind)


def by_hand(mixture: GaussianMixture, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Counts, first order statistics about zero, and log-likelihood: a loop over components."""
    x = frames.astype(np.float64)
    logs = np.empty((len(x), mixture.components))
    for c in range(mixture.components):
        covariance = mixture.covariances[c] * (1 if mixture.is_full else np.eye(x.shape[1]))
        centred = x - mixture.means[c]
        distance = (centred * np.linalg.solve(covariance, centred.T).T).sum(axis=1)
        determinant = np.linalg.slogdet(2 * np.pi * covariance)[1]
        logs[:, c] = np.log(mixture.weights[c]) - 0.5 * (distance + determinant)
    top = logs.max(axis=1, keepdims=True)
    sums = np.log(np.exp(logs - top).sum(axis=1, keepdims=True)) + top
    posteriors = np.exp(logs - sums)
    return posteriors.sum(axis=0), posteriors.T @ x, float(sums.sum())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_statistics_are_those_of_a_loop_over_components(kind, offset):
    shows, mixture = case(kind, offset)
    for precision, tolerance in (("double", 1e-14), ("single", 1e-6)):
        found = accumulate_shows(mixture, shows, precision=precision)
        assert found.names == [name for name, _ in shows]
        assert found.frames.tolist() == [*LENGTHS]
        for i, (_, frames) in enumerate(shows):
            count, first, log_likelihood = by_hand(mixture, frames)
            # Each posterior is rounded, relative to 1.
            atol = tolerance * len(frames)
            np.testing.assert_allclose(found.count[i], count, rtol=0, atol=atol)
            size = np.abs(frames).max()
            np.testing.assert_allclose(found.first[i], first, rtol=0, atol=atol * size)
            assert found.log_likelihood[i] == pytest.approx(log_likelihood, abs=10 * atol)
            assert found.count[i].sum() == pytest.approx(len(frames), rel=tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_the_sum_over_shows_is_what_accumulate_returns_about_zero(kind, offset):
    shows, mixture = case(kind, offset)
    found = accumulate_shows(mixture, shows)
    frames = np.concatenate([frames for _, frames in shows]).astype(np.float64)
    whole = accumulate(mixture, frames)
    assert (whole.origin.any(), whole.is_full) == (offset > 0, mixture.is_full)
    np.testing.assert_allclose(found.count.sum(axis=0), whole.count, rtol=1e-10)
    np.testing.assert_allclose(found.first.sum(axis=0), whole.first, rtol=1e-9, atol=1e-7)
    assert found.log_likelihood.sum() == pytest.approx(whole.log_likelihood, rel=1e-12)
    posteriors = density.posteriors(mixture, frames)
    np.testing.assert_allclose(whole.first, posteriors.T @ frames, rtol=1e-9, atol=1e-7)
    squares = frames[:, :, None] * frames[:, None] if mixture.is_full else frames**2
    squares = pack(squares) if mixture.is_full else squares
    np.testing.assert_allclose(whole.second, posteriors.T @ squares, rtol=1e-9, atol=1e-5)


@pytest.mark.parametrize("precision", ["single", "double"])
def test_bits_depend_on_no_other_show_order_or_thread(precision):
    shows, mixture = case("diag", 100.0)
    expected = accumulate_shows(mixture, shows, precision=precision)
    order = np.random.default_rng(1).permutation(len(shows))
    for threads in (1, 2, 5):
        found = accumulate_shows(
            mixture, (shows[i] for i in order), precision=precision, threads=threads
        )
        for name in ("frames", "count", "first", "log_likelihood"):
            values = getattr(expected, name)[order]
            assert getattr(found, name).tobytes() == values.tobytes()
    for i, show in enumerate(shows):
        alone = accumulate_shows(mixture, [show], precision=precision)
        assert alone.first[0].tobytes() == expected.first[i].tobytes()


def test_shows_that_cannot_be_summed_are_named():
    mixture = GaussianMixture([1.0], [[0.0, 0.0]], [[1.0, 1.0]])
    for frames, what in (
        (np.zeros((3, 4)), "show b: frames have dimension 4, the mixture has 2"),
        (np.zeros(3), r"show b: frames have shape \(3,\)"),
        ([[0.0, np.nan]], "show b: the log-likelihood of frames 0 to 1 is not finite"),
    ):
        with pytest.raises(GmmcoreError, match=what):
            accumulate_shows(mixture, [("a", np.zeros((2, 2))), ("b", frames)])
    with pytest.raises(GmmcoreError, match="show a: given twice"):
        accumulate_shows(mixture, [("a", np.zeros((2, 2)))] * 2)
    none = accumulate_shows(mixture, [])
    assert none.first.shape == (0, 1, 2)
    empty = accumulate_shows(mixture, [("a", np.zeros((0, 2)))])
    assert (empty.frames[0], empty.count[0, 0], empty.log_likelihood[0]) == (0, 0, 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("relevance", [0.5, 16.0])
def test_adapted_means_of_one_model_or_many(kind, relevance):
    shows, mixture = case(kind, 100.0)
    found = accumulate_shows(mixture, shows)
    means = adapt_means(mixture, found.count, found.first, relevance)
    for i in range(len(shows)):
        for c in range(mixture.components):
            total = found.count[i, c] + relevance
            expected = (found.first[i, c] + relevance * mixture.means[c]) / total
            np.testing.assert_allclose(means[i, c], expected, rtol=1e-12)
        alone = adapt_means(mixture, found.count[i], found.first[i], relevance)
        assert alone.tobytes() == means[i].tobytes()


def test_limits_of_adaptation():
    shows, mixture = case("diag")
    found = accumulate_shows(mixture, shows)
    count, first = found.count.copy(), found.first.copy()
    count[:, 3], first[:, 3] = 0.0, 0.0
    means = adapt_means(mixture, count, first)
    assert all(means[:, 3].ravel() == np.tile(mixture.means[3], len(shows)))
    far = adapt_means(mixture, count, first, 1e30)
    assert all(np.array_equal(one, mixture.means) for one in far)
    assert np.array_equal(adapt_means(mixture, count, first, np.inf)[0], mixture.means)
    for relevance in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="relevance is"):
            adapt_means(mixture, count, first, relevance)
    with pytest.raises(ValueError, match=r"first: shape \(7, 12, 32\), \(..., 32, 12\) was"):
        adapt_means(mixture, count, first.swapaxes(1, 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_scores_are_those_of_their_definitions(kind, offset):
    shows, mixture = case(kind, offset)
    found = accumulate_shows(mixture, shows)
    means = adapt_means(mixture, found.count[3:6], found.first[3:6])
    linear = linear_scores(mixture, means, found.count, found.first)
    assert linear.shape == (3, len(shows))
    for s, (_, frames) in enumerate(shows):
        exact = log_ratios(mixture, means, frames)
        single = log_ratios(mixture, means, frames, precision="single")
        every = log_ratios(mixture, means, frames, top=mixture.components)
        np.testing.assert_allclose(every, exact, atol=1e-12)
        np.testing.assert_allclose(single, exact, atol=1e-5)
        for m in range(3):
            model = GaussianMixture(mixture.weights, means[m], mixture.precisions, None, kind)
            ratio = (
                density.log_likelihood(model, frames) - density.log_likelihood(mixture, frames)
            ).mean()
            assert exact[m] == pytest.approx(ratio, abs=1e-10)
            expected = 0.0
            for c in range(mixture.components):
                precision = mixture.precisions[c] * (1 if mixture.is_full else np.eye(12))
                centred = found.first[s, c] - found.count[s, c] * mixture.means[c]
                expected += (means[m, c] - mixture.means[c]) @ precision @ centred
            assert linear[m, s] == pytest.approx(expected / len(frames), abs=1e-9)


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("top", [None, 1, 5])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_the_ratio_of_the_mixture_to_itself_is_zero(precision, top, offset):
    shows, mixture = case("diag", offset)
    found = log_ratios(
        mixture, mixture.means[np.newaxis], shows[5][1], top=top, precision=precision
    )
    assert found.tolist() == [0.0]
    count, first = np.ones((1, 32)), np.ones((1, 32, 12))
    assert linear_scores(mixture, mixture.means[np.newaxis], count, first) == 0.0


@pytest.mark.parametrize("top", [1, 4, 31])
@pytest.mark.parametrize("kind", ["diag", "full"])
def test_the_error_of_top_components_is_what_is_documented(top, kind):
    shows, mixture = case(kind)
    found = accumulate_shows(mixture, shows)
    means = adapt_means(mixture, found.count[4:5], found.first[4:5])
    model = GaussianMixture(mixture.weights, means[0], mixture.precisions)
    for _, frames in shows:
        posteriors = density.posteriors(mixture, frames)
        others = np.argsort(posteriors, axis=1)[:, :-top]
        a, b = (
            np.take_along_axis(density.posteriors(one, frames), others, axis=1).sum(axis=1)
            for one in (mixture, model)
        )
        error = log_ratios(mixture, means, frames, top=top) - log_ratios(mixture, means, frames)
        assert error[0] == pytest.approx((np.log1p(-b) - np.log1p(-a)).mean(), abs=1e-12)
    for wrong in (0, 33):
        with pytest.raises(ValueError, match="1 to 32 components were expected"):
            log_ratios(mixture, means, frames, top=wrong)


def test_scores_without_frames_and_with_a_frame_far_away():
    _, mixture = case("diag")
    means = mixture.means[np.newaxis] + 1
    assert np.isnan(log_ratios(mixture, means, np.zeros((0, 12)))).all()
    assert np.isnan(linear_scores(mixture, means, np.zeros((1, 32)), np.zeros((1, 32, 12)))).all()
    with pytest.raises(FloatingPointError, match="not finite"):
        log_ratios(mixture, means, np.full((1, 12), np.inf))


def test_the_equal_error_rate_is_that_of_counting():
    rng = np.random.default_rng(4)
    for round_to in (0, 1, 8):  # Rounded scores have ties.
        targets = (rng.standard_normal(80) + 1).round(round_to)
        nontargets = rng.standard_normal(300).round(round_to)
        rates = [
            ((targets < t).mean(), (nontargets >= t).mean())
            for t in [*sorted({*targets, *nontargets}), np.inf]
        ]
        misses, alarms = error_rates(targets, nontargets)
        np.testing.assert_allclose(np.stack([misses, alarms], axis=1), rates, atol=1e-15)
        nearest = min(rates, key=lambda pair: abs(pair[0] - pair[1]))
        assert equal_error_rate(targets, nontargets) == pytest.approx(sum(nearest) / 2)
    assert equal_error_rate([2, 3], [0, 1]) == 0.0
    assert equal_error_rate([0, 1], [2, 3]) == 1.0
    with pytest.raises(ValueError, match="2 target and 0 nontarget scores"):
        equal_error_rate([0, 1], [])
