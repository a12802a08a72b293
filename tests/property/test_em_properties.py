"""EM over any frames: what must hold whatever the numbers are."""

from __future__ import annotations

import numpy as np
import pytest
from arguments import words
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gmmcore.cli.main import main
from gmmcore.config.keys import IterationSettings
from gmmcore.core.estep import accumulate, parts, sums_under
from gmmcore.core.frames import ArraySource
from gmmcore.core.history import HistoryEntry
from gmmcore.core.initial import one_gaussian, split
from gmmcore.core.kinds import to_kind
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.mstep import maximise
from gmmcore.core.settings import FullMStep, MStep
from gmmcore.core.train import moments
from gmmcore.data.corpus import Corpus, CorpusShard
from gmmcore.formats.hdf5 import load_model, save_model
from gmmcore.formats.statistics import StatisticsFacts, save_statistics
from gmmcore.workflow.stage import settings_digest

few = settings(max_examples=40)
FREE_FULL = FullMStep(floor=0.0, ceiling=np.inf, occupancy=0.0, prior=0.0)


@st.composite
def frames(draw):
    """Frames of a few clusters, anywhere, of any spread."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, dimension = draw(st.integers(30, 300)), draw(st.integers(1, 4))
    centres = rng.standard_normal((draw(st.integers(1, 4)), dimension)) * 4
    values = centres[rng.integers(len(centres), size=count)] + rng.standard_normal(
        (count, dimension)
    )
    return values * 10.0 ** draw(st.integers(-3, 3)) + draw(st.sampled_from([0.0, 1.0, 1e3]))


def start(values, components, full):
    mixture = one_gaussian(moments(ArraySource(values)))
    while mixture.components < components:
        mixture = split(mixture, min(components, 2 * mixture.components))
    return to_kind(mixture, "full") if full else mixture


@few
@given(frames(), st.integers(1, 6), st.booleans())
def test_every_update_is_a_mixture_within_its_bounds(values, components, full):
    mixture = start(values, components, full)
    settings = (FullMStep if full else MStep)(occupancy=3.0)
    for _ in range(3):
        update = maximise(mixture, accumulate(mixture, values), settings)
        control = mixture.variance_control
        mixture = update.mixture
        assert abs(mixture.weights.sum() - 1) < 1e-9
        assert (mixture.weights > 0).all()
        assert mixture.components == components
        assert update.smallest_occupancy >= 0
        assert all(count < 3.0 for _, count in update.low_count)
        if full:
            deviation = np.sqrt(control[0])
            scaled = mixture.covariances / np.multiply.outer(deviation, deviation)
            low, high = np.linalg.eigvalsh(scaled)[:, [0, -1]].T
            assert low.min() > 0.999 * settings.floor
            assert high.max() < 1.001 * settings.ceiling
        else:
            ratio = mixture.covariances / control[0]
            assert ratio.min() > 0.999999 * settings.floor
            assert ratio.max() < 1.000001 * settings.ceiling


@few
@given(frames(), st.integers(1, 4), st.booleans())
def test_the_likelihood_never_falls_without_bounds(values, components, full):
    mixture = start(values, components, full)
    free = MStep(floor=0.0, ceiling=np.inf, occupancy=0.0)
    before = -np.inf
    for _ in range(4):
        statistics = accumulate(mixture, values)
        now = statistics.log_likelihood_per_frame
        assert now >= before - 1e-9 * abs(now)
        before = now
        # Fewer frames than dimensions: there is no maximum.
        assume(statistics.count.min() > 3 * values.shape[1] + 3)
        mixture = maximise(mixture, statistics, free).mixture


@few
@given(frames(), st.integers(1, 6), st.sampled_from([None, 0.0, 0.5, 40.0, 1e6]), st.booleans())
def test_a_prior_never_lowers_the_likelihood(values, components, prior, plain):
    """Also from plain covariances; the bounds are so wide that none is met."""
    mixture = start(values, components, full=True)
    settings = FullMStep(floor=0.0, ceiling=np.inf, occupancy=0.0, prior=prior)
    before = -np.inf
    for iteration in range(4):
        statistics = accumulate(mixture, values)
        now = statistics.log_likelihood_per_frame
        assert now >= before - 1e-9 * abs(now)
        before = now
        assume(statistics.count.min() > 3 * values.shape[1] + 3)
        chosen = FREE_FULL if plain and iteration == 0 else settings
        mixture = maximise(mixture, statistics, chosen).mixture
        assert np.isfinite(mixture.covariances).all()


@few
@given(frames(), st.integers(8, 40), st.booleans())
def test_components_of_few_frames_move_and_stay_finite(values, components, full):
    """Down to a frame for each component, with the default settings."""
    mixture = start(values, components, full)
    for _ in range(3):
        update = maximise(mixture, accumulate(mixture, values), FullMStep() if full else MStep())
        moved = (update.mixture.means != mixture.means).any(axis=1)
        held = accumulate(mixture, values).count >= 1e-3
        mixture = update.mixture
        assert np.isfinite(mixture.covariances).all()
        assert moved[held].mean() > 0.5 or len(np.unique(values)) < 3


@few
@given(frames(), st.integers(1, 4), st.booleans(), st.data())
def test_statistics_add_up_wherever_the_frames_are_cut(values, components, full, data):
    mixture = start(values, components, full)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=4)))
    parts = [accumulate(mixture, part) for part in np.split(values, cuts)]
    total = sum(parts[1:], parts[0])
    whole = accumulate(mixture, values)
    assert total.frames == whole.frames
    np.testing.assert_allclose(total.log_likelihood, whole.log_likelihood, rtol=1e-10)
    for name in ("count", "first", "second"):
        expected = getattr(whole, name)
        scale = np.abs(expected).max() + 1e-300
        # Values far from zero are rounded before their mean is subtracted.
        rounding = 1e-14 * len(values) * max(1.0, np.abs(values).max()) ** 2
        np.testing.assert_allclose(getattr(total, name), expected, atol=1e-9 * scale + rounding)
    np.testing.assert_allclose(total.count.sum(), len(values))


def maximised(folder, fall, silence=1.0, **settings):
    """The verb, where the likelihood is lower by `fall` than in the iteration before."""
    means, precisions = [[-1.0], [1.0]], [[silence], [1.0]]
    mixture = GaussianMixture([0.5, 0.5], means, precisions, np.ones((2, 1)))
    values = np.random.default_rng(1).standard_normal((1000, 1))
    used = IterationSettings(**settings)
    sums = sums_under(mixture, used.precision, used.pruning)
    chosen = parts(ArraySource(values))
    found = dict(enumerate(map(sums.over, chosen)))
    statistics = sums.statistics(sums.total(chosen, map), len(values))
    corpus = Corpus((CorpusShard("000", "000.npy", (1000,), "a"),), 1, (0.0,), (1.0,), (1.0,))
    corpus.write(folder / "corpus.json")
    before = statistics.log_likelihood_per_frame + fall
    entry = HistoryEntry("diag", 2, 1, 0, 1000, before, float("nan"), 0, 0, 0, 100.0)
    facts = {"stage": "diag", "components": 2, "corpus": corpus.digest, "iteration": 1}
    digest = save_model(folder / "001.h5", mixture, facts, [entry])
    save_statistics(
        folder / "0.stats.h5",
        found,
        StatisticsFacts(digest, corpus.digest, 0, settings_digest("accumulate", used), "cpu"),
    )
    return main(
        [
            *("maximise", "--mixture", str(folder / "001.h5"), "--corpus"),
            *(str(folder / "corpus.json"), "--statistics", str(folder / "0.stats.h5")),
            *("--output", str(folder / "002.h5")),
            *words(used),
        ]
    )


def test_a_falling_likelihood_is_warned_of(tmp_path, capsys):
    assert maximised(tmp_path, 0.5) == 0
    captured = capsys.readouterr()
    assert "gain -0.500000" in captured.out
    assert "warning: diag 2, iteration 2: the log-likelihood per frame fell by 0.5" in captured.err
    assert "try precision: double" in captured.err
    assert load_model(tmp_path / "002.h5").history[-1].gain == pytest.approx(-0.5)


@pytest.mark.parametrize("fall", [1e-9, -0.1])
def test_rounding_and_gains_are_no_fall(tmp_path, capsys, fall):
    assert maximised(tmp_path, fall) == 0
    assert "fell" not in capsys.readouterr().err


def test_how_far_a_likelihood_may_fall_depends_on_precision_and_variances(tmp_path, capsys):
    """Of a narrow component, the terms of the quadratic are large, and single precision is less."""
    free = {"floor": 0.0, "occupancy": 0.0}
    assert maximised(tmp_path, 1e-4, silence=2e3, **free) == 0
    assert maximised(tmp_path / "double", 1e-4, silence=2e3, precision="double", **free) == 0
    assert maximised(tmp_path / "wide", 1e-4, **free) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(
        "fell by 0.0001" in line and "rounding explains no more than" in line for line in lines
    )


def test_a_starved_component_is_told_in_the_log_and_the_history(tmp_path, capsys):
    assert maximised(tmp_path, -0.1, occupancy=500.0) == 0
    assert "low count 1: " in capsys.readouterr().out
    model = load_model(tmp_path / "002.h5")
    assert model.history[-1].low_count == 1


def test_a_floor_that_is_reached_is_told(tmp_path, capsys):
    assert maximised(tmp_path, -0.1, floor=5.0, ceiling=10.0) == 0
    assert "floored 2  ceiled 0" in capsys.readouterr().out
    model = load_model(tmp_path / "002.h5")
    assert model.history[-1].floored == 2
    np.testing.assert_allclose(model.mixture.covariances, 5.0)


def test_statistics_that_are_not_finite_go_no_further(tmp_path, capsys):
    Corpus((CorpusShard("000", "000.npy", (5,), "a"),), 2, (0.0,), (1.0,), (1.0,)).write(
        tmp_path / "c.json"
    )
    digest = Corpus.read(tmp_path / "c.json").digest
    mixture = GaussianMixture([1.0], [[0.0, 0.0]], [[1.0, 1.0]])
    facts = {"stage": "diag", "components": 1, "corpus": digest, "iteration": 0}
    mixture_digest = save_model(tmp_path / "0.h5", mixture, facts)
    values = sums_under(mixture, "single", 2e-8).over(ArraySource(np.ones((5, 2))))
    values[0] = np.nan
    settings = settings_digest("accumulate", IterationSettings())
    save_statistics(
        tmp_path / "0.stats.h5",
        {0: values},
        StatisticsFacts(mixture_digest, digest, 0, settings, "cpu"),
    )
    names = {name: str(tmp_path / name) for name in ("0.h5", "c.json", "0.stats.h5", "1.h5")}
    command = ["maximise", "--mixture", names["0.h5"], "--corpus", names["c.json"], "--statistics"]
    command += [names["0.stats.h5"], "--output", names["1.h5"]]
    assert main(command) == 1
    assert "0.stats.h5: part 0 is there twice, holds a number that is not" in (
        capsys.readouterr().err
    )
