"""M-step, split, start and bounds against closed forms."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import replace

import numpy as np
import pytest

from gmmcore.core.estep import Statistics, accumulate
from gmmcore.core.initial import one_gaussian, split
from gmmcore.core.kinds import Full, to_kind
from gmmcore.core.mixture import GaussianMixture, InvalidMixtureError, is_definite
from gmmcore.core.mstep import maximise
from gmmcore.core.settings import FullMStep, MStep
from gmmcore.core.train import ArraySource, TrainingSettings, moments, train, uniform_start
from gmmcore.data.demo import DemoSettings, compare_to_truth, draw_shows, known_mixture

FREE = MStep(floor=0, ceiling=np.inf)


def clusters(seed: int, components: int, dimension: int, frames: int):
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((components, dimension)) * 12
    chosen = rng.integers(0, components, frames)
    return means[chosen] + rng.standard_normal((frames, dimension)), means, chosen


def gaussian(frames) -> GaussianMixture:
    return one_gaussian(moments(ArraySource(frames)))


def test_start_is_the_true_variance_of_all_frames_far_from_zero():
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((20_001, 3)) * [1, 10, 0.1] + [1e6, -1e5, 3]
    mixture = gaussian(frames)
    np.testing.assert_allclose(mixture.means[0], frames.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(mixture.covariances[0], frames.var(axis=0), rtol=1e-9)
    np.testing.assert_allclose(mixture.variance_control, mixture.covariances, rtol=1e-15)


def test_a_constant_dimension_of_stored_frames_is_refused_by_its_number():
    frames = np.random.default_rng(0).standard_normal((50, 4)) + 7
    frames[:, 2] = 1234.5
    with pytest.raises(InvalidMixtureError, match="dimension 2"):
        one_gaussian(moments(ArraySource(frames)), stored="float32")


@pytest.mark.parametrize("kind", ["diag", "full"])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("value", [0.0, 0.1, -3e4])
def test_a_constant_dimension_of_an_array_is_trained_with_a_warning(kind, scale, value):
    frames = scale * np.random.default_rng(0).standard_normal((500, 4))
    frames[:, 3] = np.round(frames[:, 3] / scale)
    frames[:, 2] = value
    with pytest.warns(UserWarning, match=r"the same value in dimension 2 \(counted from 0\)"):
        mixture, _ = train(frames, 4, full_iterations=2 * (kind == "full"))
    np.testing.assert_allclose(mixture.means[:, 2], value, rtol=1e-6, atol=1e-9)
    ratio = np.delete(mixture.overall_variance / np.maximum(frames.var(axis=0), 1e-300), 2)
    np.testing.assert_allclose(ratio, 1.0, atol=0.1)


@pytest.mark.parametrize("outlier", [1e3, -1e6, 1e10])
def test_an_outlier_does_not_move_the_bounds(outlier):
    rng = np.random.default_rng(2)
    frames = 20 * rng.standard_normal((8, 3))[rng.integers(8, size=4000)]
    frames += rng.standard_normal(frames.shape)
    clean = frames[2000:]
    before = accumulate(train(frames[:2000], 9)[0], clean).log_likelihood_per_frame
    frames[0, 0] = outlier
    few = r"^at most 2 of 2000 frames make more than half of the variance in dimension 0 \("
    with pytest.warns(UserWarning, match=few):
        after = accumulate(train(frames[:2000], 9)[0], clean).log_likelihood_per_frame
    assert after > before - 0.05


def test_tight_clusters_are_not_floored():
    rng = np.random.default_rng(1)
    frames = 30 * rng.uniform(-1, 1, (6, 4))[np.arange(3000) % 6]
    frames += 0.2 * rng.standard_normal(frames.shape)
    mixture, history = train(frames, 6)
    assert not history[-1].floored
    np.testing.assert_allclose(mixture.covariances, 0.04, rtol=0.3)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("value", [0.0, 0.1, -3e4])
def test_a_constant_dimension_from_a_start_of_another_tool(full, precision, value):
    frames = np.random.default_rng(1).standard_normal((2000, 3))
    frames[:, 1] = value
    means = frames[:2].copy()
    means[:, 1] += 0.3
    start = GaussianMixture([0.5, 0.5], means, np.ones((2, 3)))
    start = to_kind(start, "full") if full else start
    for floor in (0.0, 0.01):
        settings = TrainingSettings(
            precision=precision, diag=MStep(floor=floor), full=FullMStep(floor=floor)
        )
        bounded = nullcontext()
        if not floor:
            bounded = pytest.raises(InvalidMixtureError, match="set a floor above zero")
            if precision == "single":  # Rounding may leave a variance above zero.
                bounded = suppress(InvalidMixtureError)
        with bounded, pytest.warns(UserWarning, match="the same value in dimension 1"):
            train(frames, 2, [2], 2 * full, settings, start=start)
        statistics = accumulate(start, frames, precision=precision)
        with pytest.raises(InvalidMixtureError, match=r"in dimension 1 .* no more than"):
            maximise(start, statistics, MStep(floor=floor))


def test_a_small_deviation_far_from_zero_is_trained():
    rng = np.random.default_rng(2)
    steps = rng.standard_normal((4000, 2)) + 8 * rng.integers(0, 2, (4000, 1))
    mixture, _ = train(0.05 * steps + [1e6, 0], 2, [20])
    np.testing.assert_allclose(np.sort(mixture.means[:, 0]) - 1e6, [0, 0.4], atol=0.005)
    np.testing.assert_allclose(mixture.covariances, 0.0025, rtol=0.1)


def test_split_moves_along_the_widest_dimension_as_sidekit_does():
    control = np.full((2, 3), 2.0)
    mixture = GaussianMixture.from_covariances(
        [0.25, 0.75], [[0, 0, 0], [5, 5, 5]], [[1, 4, 2], [9, 1, 1]], control
    )
    result = split(mixture)
    np.testing.assert_array_equal(result.weights, [0.125, 0.375, 0.125, 0.375])
    expected = [[0, -2, 0], [2, 5, 5], [0, 2, 0], [8, 5, 5]]
    np.testing.assert_array_equal(result.means, expected)
    np.testing.assert_array_equal(result.precisions, np.tile(mixture.precisions, (2, 1)))
    np.testing.assert_array_equal(result.variance_control, np.full((4, 3), 2.0))


def test_split_to_any_number_divides_the_heaviest():
    mixture = GaussianMixture([0.2, 0.5, 0.3], np.zeros((3, 1)), np.ones((3, 1)))
    result = split(mixture, 5)
    np.testing.assert_allclose(result.weights, [0.2, 0.25, 0.15, 0.25, 0.15])
    with pytest.raises(ValueError, match=r"3\.\.6"):
        split(mixture, 7)


def test_split_of_full_covariances_moves_along_the_principal_axis():
    mixture = GaussianMixture.from_covariances([1.0], [[1.0, 2.0]], [[[2.5, 1.5], [1.5, 2.5]]])
    result = split(mixture)
    step = np.sqrt(4.0) * np.array([1, 1]) / np.sqrt(2)
    np.testing.assert_allclose(result.means - [1, 2], [-step, step])


def test_full_of_a_diagonal_mixture_is_the_same_density():
    frames, _, _ = clusters(1, 3, 4, 200)
    mixture = split(split(gaussian(frames)))
    full = to_kind(mixture, "full")
    assert full.is_full
    a, b = accumulate(mixture, frames), accumulate(full, frames)
    assert a.log_likelihood == pytest.approx(b.log_likelihood, rel=1e-12)


def test_floors_and_ceilings_are_relative_and_counted():
    rng = np.random.default_rng(2)
    frames = np.concatenate([rng.normal(0, 1e-3, (500, 2)), rng.normal(50, 1, (500, 2))])
    mixture, _ = train(frames, 2, [5])
    statistics = accumulate(mixture, frames)
    update = maximise(mixture, statistics, MStep(floor=0.01, ceiling=10))
    low = 0.01 * mixture.variance_control[0]
    assert update.floored == 2 * 2  # all are far below the overall variance of about 625
    np.testing.assert_allclose(update.mixture.covariances, [low, low])
    capped = maximise(mixture, statistics, MStep(floor=0, ceiling=1e-4))
    assert (capped.floored, capped.ceiled) == (0, 2)


def test_eigenvalues_of_full_covariances_are_bounded():
    rng = np.random.default_rng(3)
    line = rng.standard_normal((1000, 1)) * [3.0, 3.0]
    frames = line + 1e-4 * rng.standard_normal((1000, 2))
    mixture = to_kind(gaussian(frames), "full")
    statistics = accumulate(mixture, frames)
    update = maximise(mixture, statistics, FullMStep(floor=0.05))
    scale = np.sqrt(np.outer(mixture.variance_control[0], mixture.variance_control[0]))
    values = np.linalg.eigvalsh(update.mixture.covariances[0] / scale)
    assert update.floored == 1
    np.testing.assert_allclose(values, [0.05, 2.0], rtol=1e-3)


def test_a_singular_covariance_is_refused_however_it_is_rounded():
    factors = np.random.default_rng(0).standard_normal((400, 1, 4, 3))
    products = factors @ factors.transpose(0, 1, 3, 2)
    # Rounding makes some of them definite, and would make others when they are put together again.
    found = [
        one for one in products if np.linalg.eigh(one[0])[0][0] <= 0 and not is_definite(one[0])
    ]
    assert len(found) > 50
    for singular in found:
        with pytest.raises(InvalidMixtureError, match="component 7 is not positive definite; set"):
            Full.bounded(singular, np.ones((1, 4)), (0.0, np.inf), np.array([7]))


@pytest.mark.parametrize("full", [False, True])
def test_without_a_floor_a_degenerate_component_is_named(full):
    frames, _, _ = clusters(11, 2, 2, 100)
    mixture = split(gaussian(frames))
    mixture = to_kind(mixture, "full") if full else mixture
    first = np.array([[10.0, 20.0], [30.0, 60.0]])
    count = np.array([50.0, 50.0])
    # Every frame of component 0 has one value; those of component 1 vary.
    second = first * first / count[:, None] + [[0.0, 0.0], [5e3, 5e3]]
    if full:
        product = (first[:, 0] * first[:, 1] / count)[:, None]
        second = np.concatenate([second[:, :1], product, second[:, 1:]], axis=1)
    statistics = Statistics(count, first, second, np.zeros(2), -1.0, 100, full)
    with pytest.raises(InvalidMixtureError, match="component 0 "):
        maximise(mixture, statistics, MStep(floor=0, ceiling=np.inf, occupancy=0))
    floored = maximise(mixture, statistics, MStep())
    assert floored.floored == 2


def few_and_many(full: bool):
    """Two separate clusters, of 5 and of 300 frames, with a mixture for them and their moments."""
    rng = np.random.default_rng(12)
    mixing = rng.standard_normal((3, 3)) + 2 * np.eye(3)
    parts = [rng.standard_normal((count, 3)) @ mixing + shift for count, shift in FEW_AND_MANY]
    control = np.array([[2.0, 3.0, 4.0]] * 2)
    mixture = GaussianMixture.from_covariances(
        [0.5, 0.5], [[-500.0] * 3, [500.0] * 3], np.ones((2, 3)), control
    )
    mixture = to_kind(mixture, "full") if full else mixture
    expected = [np.cov(part.T, bias=True) for part in parts]
    return mixture, accumulate(mixture, np.concatenate(parts)), expected, control[0]


FEW_AND_MANY = ((5, -500.0), (300, 500.0))


def test_the_correlations_of_a_component_are_shrunk_to_the_pooled_ones_by_its_count():
    mixture, statistics, expected, _ = few_and_many(full=True)
    free = {"floor": 0.0, "ceiling": np.inf, "occupancy": 0.0}
    plain = maximise(mixture, statistics, FullMStep(prior=0, **free))
    # Whatever the size of an element: the sums round relative to the largest ones.
    scale = 1e-9 * np.max(expected)
    np.testing.assert_allclose(plain.mixture.covariances, expected, rtol=0, atol=scale)
    assert plain.mixture == maximise(mixture, statistics, MStep(**free)).mixture
    pooled = (5 * expected[0] + 300 * expected[1]) / 305
    pooled /= np.sqrt(np.multiply.outer(np.diag(pooled), np.diag(pooled)))
    for prior, k in ((40.0, 40.0), (None, 6.0)):
        update = maximise(mixture, statistics, FullMStep(prior=prior, **free))
        for found, one, (n, _) in zip(
            update.mixture.covariances, expected, FEW_AND_MANY, strict=True
        ):
            deviations = np.diag(np.sqrt(np.diag(one)))
            formula = (n * one + k * deviations @ pooled @ deviations) / (n + k)
            np.testing.assert_allclose(found, formula, rtol=0, atol=scale)
            np.testing.assert_allclose(np.diag(found), np.diag(one), rtol=1e-9)
        np.testing.assert_array_equal(update.mixture.means, plain.mixture.means)


@pytest.mark.parametrize("full", [False, True])
def test_a_component_of_few_frames_gets_the_global_variances_for_those_it_lacks(full):
    mixture, statistics, expected, control = few_and_many(full)
    settings = FullMStep(floor=0, ceiling=np.inf, occupancy=20, prior=0)
    update = maximise(mixture, statistics, settings)
    formula = (5 * expected[0] + 15 * np.diag(control)) / 20
    wanted = [formula, expected[1]]
    if not full:
        wanted = [np.diag(one) for one in wanted]
    np.testing.assert_allclose(update.mixture.covariances, wanted, rtol=1e-9)
    np.testing.assert_allclose(
        update.mixture.means,
        statistics.origin + statistics.centred_first / statistics.count[:, None],
    )
    assert update.low_count == ((0, pytest.approx(5.0)),)
    at_the_limit = maximise(mixture, statistics, MStep(floor=0, ceiling=np.inf, occupancy=5.0001))
    without = maximise(mixture, statistics, MStep(floor=0, ceiling=np.inf, occupancy=0))
    np.testing.assert_allclose(at_the_limit.mixture.means, without.mixture.means)
    np.testing.assert_allclose(
        at_the_limit.mixture.covariances, without.mixture.covariances, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("occupancy", [0.0, 10.0])
@pytest.mark.parametrize("kind", ["spherical", "diag", "tied", "full"])
def test_bounds_hold_and_nothing_jumps_however_few_frames_a_component_has(kind, occupancy):
    """The means and covariances of a component that loses its frames go a continuous way."""
    rng = np.random.default_rng(3)
    frames = rng.normal(0, [1, 2], (200, 2)) + rng.choice([-5.0, 5.0], (200, 1))
    wide = np.array([[1e12, 1e12], [1.0, 1.0]])
    control = np.tile(frames.var(axis=0), (2, 1))
    start = GaussianMixture([0.5, 0.5], [[-5.0, -5.0], [5.0, 5.0]], np.ones((2, 2)), control)
    statistics = accumulate(to_kind(start, kind), frames, precision="double")
    mixture = to_kind(GaussianMixture([0.5, 0.5], start.means - 3, wide, control), kind)
    settings = MStep(floor=0.05, ceiling=2.0, occupancy=occupancy, prior=0.0)
    means = shape = None
    for frames_left in [*np.geomspace(50, 1e-40, 400), 0.0]:
        share = np.array([frames_left / statistics.count[0], 1.0])
        parts = replace(
            statistics,
            count=statistics.count * share,
            centred_first=statistics.centred_first * share[:, np.newaxis],
            centred_second=statistics.centred_second * share[:, np.newaxis],
        )
        updated = maximise(mixture, parts, settings).mixture
        scale = np.sqrt(control[0])
        covariances = to_kind(updated, "full").covariances / np.outer(scale, scale)
        least, most = settings.floor, settings.ceiling
        if kind == "spherical":
            least, most = (bound * control.mean() / control[0] for bound in (least, most))
            least, most = least.min(), most.max()
        eigenvalues = np.linalg.eigvalsh(covariances)
        assert (eigenvalues > least * (1 - 1e-9)).all()
        assert (eigenvalues < most * (1 + 1e-9)).all()
        if shape is not None:
            np.testing.assert_allclose(updated.means, means, rtol=0, atol=1)
            np.testing.assert_allclose(covariances, shape, rtol=0, atol=0.3)
        means, shape = updated.means, covariances


def test_a_component_without_frames_is_wide_after_one_iteration():
    frames = clusters(5, 2, 2, 400)[0]
    start = GaussianMixture([0.5, 0.5], [[-300, -300], [3, 3]], [[1e12, 1e12], [1, 1]])
    mixture = train(frames, 2, [1], start=start)[0]
    np.testing.assert_allclose(mixture.covariances[0], frames.var(axis=0), rtol=1e-6)
    np.testing.assert_allclose(mixture.means[0], [-300, -300])


@pytest.mark.parametrize("components", [4, 16, 40])
@pytest.mark.parametrize("kind", ["spherical", "diag", "tied", "full"])
def test_the_likelihood_never_falls_with_few_frames(kind, components):
    """Low counts, bounds and the prior: what is put in place of frames may not cost any."""
    frames, _ = correlated(6, 8, 160, 1)
    frames[:, 5] = np.round(frames[:, 5])
    limit = 8 * (kind in ("tied", "full"))
    settings = TrainingSettings(precision="double", last_gain=1e-6)
    _, history = train(frames, components, None, limit, settings, kind=kind)
    assert min(entry.gain for entry in history if entry.iteration > 1) > -1e-9


def test_the_prior_does_not_lower_the_likelihood_of_plain_covariances():
    frames, _ = correlated(20, 16, 640, 1)
    mixture = to_kind(train(frames, 16)[0], "full")
    plain = FullMStep(prior=0, occupancy=0)
    for _ in range(6):
        mixture = maximise(mixture, accumulate(mixture, frames), plain).mixture
    before = accumulate(mixture, frames).log_likelihood_per_frame
    update = maximise(mixture, accumulate(mixture, frames), FullMStep(occupancy=0))
    assert accumulate(update.mixture, frames).log_likelihood_per_frame > before - 1e-9


def correlated(dimension: int, components: int, *sizes: int):
    """Frames of components with correlated coefficients, in parts of these sizes."""
    rng = np.random.default_rng(21)
    means = rng.standard_normal((components, dimension)) * 1.5
    mixings = rng.standard_normal((components, dimension, dimension)) / np.sqrt(dimension)
    mixings += 0.5 * np.eye(dimension)
    parts = []
    for size in sizes:
        chosen = rng.integers(components, size=size)
        noise = np.einsum("fi,fij->fj", rng.standard_normal((size, dimension)), mixings[chosen])
        parts.append(means[chosen] + noise)
    return parts


def test_full_covariances_of_few_frames_do_not_collapse_on_other_frames():
    """30 frames for each full component of 20 dimensions, which has 231 parameters."""
    frames, held_out = correlated(20, 16, 480, 3000)
    scores = {}
    for name, full in (("default", FullMStep()), ("plain", FullMStep(prior=0, occupancy=10))):
        settings = TrainingSettings(llk_gain=-np.inf, full=full)
        mixture, _ = train(frames, 16, full_iterations=4, settings=settings)
        scores[name] = accumulate(mixture, held_out).log_likelihood_per_frame
    diagonal, _ = train(frames, 16)
    scores["diagonal"] = accumulate(diagonal, held_out).log_likelihood_per_frame
    assert scores["default"] > scores["diagonal"] + 2
    assert scores["plain"] < scores["diagonal"] - 10


def test_a_training_on_few_frames_moves_and_does_not_fit_these_alone():
    """300 frames, 64 components: all of them are below the least count."""
    frames, held_out = correlated(20, 64, 300, 3000)
    _, history = train(frames, 64)
    assert history[-1].low_count > 60
    scores = {}
    for occupancy in (10.0, 0.0):
        settings = TrainingSettings(diag=MStep(occupancy=occupancy))
        mixture, _ = train(frames, 64, settings=settings)
        scores[occupancy] = accumulate(mixture, held_out).log_likelihood_per_frame
    single = accumulate(gaussian(frames), held_out).log_likelihood_per_frame
    assert scores[10.0] > max(scores[0.0] + 2, single)


@pytest.mark.parametrize("full", [False, True])
def test_a_starved_component_keeps_its_place(full):
    rng = np.random.default_rng(4)
    frames = rng.standard_normal((2000, 3))
    means = np.stack([np.zeros(3), np.full(3, 1e4)])
    mixture = GaussianMixture.from_covariances([0.5, 0.5], means, np.ones((2, 3)), np.ones((2, 3)))
    mixture = to_kind(mixture, "full") if full else mixture
    statistics = accumulate(mixture, frames)
    update = maximise(mixture, statistics, MStep())
    assert update.low_count == ((1, pytest.approx(0.0, abs=1e-200)),)
    assert update.smallest_occupancy < 1e-200
    result = update.mixture
    assert result.weights.sum() == pytest.approx(1)
    np.testing.assert_array_equal(result.means[1], means[1])
    assert 0 < result.weights[1] < 1e-6


def test_statistics_of_another_mixture_are_refused():
    frames, _, _ = clusters(5, 2, 3, 100)
    mixture = split(gaussian(frames))
    with pytest.raises(InvalidMixtureError, match="not those of this mixture"):
        maximise(split(mixture), accumulate(mixture, frames), MStep())
    with pytest.raises(InvalidMixtureError, match="no frames"):
        maximise(mixture, accumulate(mixture, frames[:0]), MStep())


@pytest.mark.parametrize("components", [1, 2, 5, 8, 11])
def test_any_number_of_components(components):
    frames, _, _ = clusters(6, components, 4, 3000)
    mixture, history = train(frames, components, [3, 3, 3, 3])
    assert mixture.components == components
    assert [entry.components for entry in history if entry.iteration == 1] == [
        count for count in (2, 4, 5, 8, 11) if count in _stage_sizes(components)
    ]


def _stage_sizes(components: int) -> set[int]:
    sizes, current = set(), 1
    while current < components:
        current = min(2 * current, components)
        sizes.add(current)
    return sizes


@pytest.mark.parametrize("precision", ["single", "double"])
def test_the_likelihood_never_falls_within_a_stage(precision):
    rng = np.random.default_rng(7)
    frames = rng.standard_t(4, (5000, 5)) @ rng.standard_normal((5, 5))
    settings = TrainingSettings(llk_gain=-np.inf, precision=precision, diag=FREE, full=FREE)
    _, history = train(frames, 8, [6, 6, 6], 6, settings)
    gains = [entry.gain for entry in history if entry.iteration > 1]
    assert len(gains) == 20
    tolerance = 1e-10 if precision == "double" else 1e-5
    assert min(gains) > -tolerance


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_demonstration_recovers_every_component(seed):
    rng = np.random.default_rng(seed)
    truth, shows = draw_shows(rng, known_mixture(rng, 64, 20), DemoSettings())
    frames = np.concatenate([show.frames[show.speech] for show in shows])
    mixture, _ = train(frames, 64, [2, 4, 4, 8, 8, 12], 8, TrainingSettings(seed=seed))
    assert compare_to_truth(truth, mixture).found() == 64


def test_a_stage_stops_when_the_gain_is_small():
    frames, _, _ = clusters(8, 4, 3, 4000)
    settings = TrainingSettings(llk_gain=0.01)
    _, history = train(frames, 4, [50, 50], 0, settings)
    last = [entry for entry in history if entry.components == 4]
    assert len(last) < 50
    assert last[-1].gain < 0.01
    assert all(entry.gain >= 0.01 for entry in last[1:-1])


def test_known_components_are_recovered_within_their_standard_errors():
    rng = np.random.default_rng(9)
    known = known_mixture(rng, 16, 8)
    drawn = DemoSettings(
        shows=4, speakers=1, frames=60_000, offset=0.0, persistence=0.0, correlation=0.0
    )
    truth, shows = draw_shows(rng, known, drawn)
    frames = np.concatenate([show.frames[show.speech] for show in shows])
    mixture, _ = train(frames, 16, [10] * 4, 10, TrainingSettings(llk_gain=1e-6))
    recovery = compare_to_truth(truth, mixture)
    assert recovery.found(0.2) == 16
    counts = len(frames) * truth.weights[recovery.pairs[:, 0]]
    errors = np.abs(recovery.mean_errors) * np.sqrt(counts)[:, None]
    # 128 standard normal numbers, a little widened by the components' overlap.
    assert (errors < 3).mean() > 0.97
    assert errors.max() < 5


def test_uniform_start_takes_each_slice_alone():
    rng = np.random.default_rng(10)
    frames = np.concatenate([rng.normal(10 * i, 1 + i, (1000, 2)) for i in range(3)])
    mixture = uniform_start(frames, 3)
    for index in range(3):
        part = frames[1000 * index : 1000 * (index + 1)]
        np.testing.assert_allclose(mixture.means[index], part.mean(axis=0))
        np.testing.assert_allclose(mixture.covariances[index], part.var(axis=0))
    np.testing.assert_allclose(mixture.variance_control, [frames.var(axis=0)] * 3)
