"""The page of what follows a UBM: its examples, its configuration, and its i-vectors."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from gmmcore import (
    GaussianMixture,
    accumulate_shows,
    adapt_means,
    equal_error_rate,
    linear_scores,
    log_ratios,
)
from gmmcore.config.configuration import resolve

PAGE = Path(__file__).parents[3] / "docs/after-the-ubm.md"


def test_the_page_runs_and_the_likelihood_of_its_i_vectors_never_falls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    (tmp_path / "features").symlink_to(data / "features/sidekit_none")
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    example = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert doctest.DocTestRunner().run(example, clear_globs=False) == (0, len(example.examples))
    names: dict[str, Any] = example.globs
    rng = np.random.default_rng(6)
    for rank in (1, 3):
        truth = rng.standard_normal((6, 4, rank))
        count = rng.gamma(2.0, 5.0, (30, 6))
        count[:, 2] *= rng.random(30) < 0.5  # Some shows have no frames of a component.
        factors = rng.standard_normal((30, rank))
        white = count[:, :, None] * np.einsum("cdi,si->scd", truth, factors)
        white += np.sqrt(count)[:, :, None] * rng.standard_normal(white.shape)
        space, gains = rng.standard_normal((6, 4, rank)), []
        for _ in range(40):
            space, gain = names["improve"](space, count, white)
            gains.append(gain)
            # The gain is that of a marginal density: w ~ N(0, I), each value N(n T w, n).
        assert min(np.diff(gains)) > -1e-9 * abs(gains[-1])
        values = white.reshape(30, -1)
        expected = 0.0
        space, gain = names["improve"](space, count, white)[0], None
        gain = names["extract"](space, count, white)[2]
        for n, x in zip(np.repeat(count, 4, axis=1), values, strict=True):
            kept = n > 0
            loading = (n[:, None] * space.reshape(24, rank))[kept]
            covariance = np.diag(n[kept]) + loading @ loading.T
            plain = (x[kept] ** 2 / n[kept]).sum() + np.log(n[kept]).sum()
            x = x[kept]
            full = x @ np.linalg.solve(covariance, x) + np.linalg.slogdet(covariance)[1]
            expected += (plain - full) / 2
        assert gain == pytest.approx(expected, rel=1e-9)


def test_the_configuration_of_the_page_is_valid() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    settings = resolve(yaml.safe_load(block))
    assert settings.statistics["evaluation"].list == "evaluation.txt"


def test_drawn_speakers_have_the_error_rate_of_a_plain_computation() -> None:
    """200 speakers whose means are known: the ratios of their true densities, and of models."""
    rng = np.random.default_rng(8)
    components, dimension, speakers = 16, 6, 200
    ubm = GaussianMixture.from_covariances(
        rng.dirichlet(np.full(components, 5.0)),
        3 * rng.standard_normal((components, dimension)),
        rng.uniform(0.5, 2.0, (components, dimension)),
    )
    means = ubm.means + 0.25 * rng.standard_normal((speakers, components, dimension))

    def drawn(speaker: int, frames: int) -> np.ndarray:
        chosen = rng.choice(components, frames, p=ubm.weights)
        noise = rng.standard_normal((frames, dimension)) / np.sqrt(ubm.precisions[chosen])
        return means[speaker, chosen] + noise

    def plain(means: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Mean ratios of some frames for all models, of sums over components in float64."""
        logs = []
        for centres in (means, ubm.means[np.newaxis]):
            distances = (frames[:, None, None] - centres) ** 2 * ubm.precisions
            constants = np.log(ubm.weights) + 0.5 * np.log(ubm.precisions).sum(axis=1)
            logs.append(np.logaddexp.reduce(constants - 0.5 * distances.sum(axis=3), axis=2))
        return (logs[0] - logs[1]).mean(axis=0)

    enrolled = accumulate_shows(ubm, ((str(s), drawn(s, 400)) for s in range(speakers)))
    tests = [(str(s), drawn(s, 30)) for s in range(speakers)]
    found = accumulate_shows(ubm, tests)
    models = adapt_means(ubm, enrolled.count, enrolled.first)
    target = np.eye(speakers, dtype=bool)
    linear = linear_scores(ubm, models, found.count, found.first)
    rates = {"linear": equal_error_rate(linear[target], linear[~target])}
    for name, given, count in (("true", means, speakers), ("adapted", models, 20)):
        chosen = tests[:count]
        ratios = np.array([log_ratios(ubm, given, frames) for _, frames in chosen]).T
        expected = np.array([plain(given, frames) for _, frames in chosen]).T
        np.testing.assert_allclose(ratios, expected, atol=1e-12)
        own = target[:, :count]
        rates[name] = equal_error_rate(ratios[own], ratios[~own])
        assert rates[name] == pytest.approx(counted_rate(expected[own], expected[~own]), abs=1e-12)
    # The true densities tell speakers apart best; few adapted ones come near.
    assert 0.005 < rates["true"] < min(rates["adapted"], rates["linear"]) < 0.2


def counted_rate(targets: np.ndarray, nontargets: np.ndarray) -> float:
    """The equal error rate by counting at each score."""
    thresholds = np.unique(np.concatenate([targets, nontargets]))
    misses = np.array([(targets < one).mean() for one in thresholds])
    alarms = np.array([(nontargets >= one).mean() for one in thresholds])
    best = np.abs(misses - alarms).argmin()
    return float(misses[best] + alarms[best]) / 2
