"""Kinds of covariances: trainings of each, beside scikit-learn, and what files keep of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gmmcore
from gmmcore import GaussianMixture, GaussianMixtureModel
from gmmcore.core.density import log_likelihood
from gmmcore.core.kinds import KINDS, to_kind

TRUTH = GaussianMixture.from_covariances(
    [0.2, 0.3, 0.5],
    [[-3.0, 0.0, 1.0], [0.0, 3.0, -1.0], [3.0, 0.0, 0.0]],
    [
        [[1.0, 0.5, 0.0], [0.5, 2.0, 0.3], [0.0, 0.3, 1.0]],
        [[2.0, -0.4, 0.2], [-0.4, 1.0, 0.0], [0.2, 0.0, 0.5]],
        [[1.0, 0.0, 0.6], [0.0, 0.5, 0.1], [0.6, 0.1, 2.0]],
    ],
)
FRAMES = TRUTH.sample(3000, seed=1)[0]
START = to_kind(GaussianMixture([0.5, 0.3, 0.2], FRAMES[:3], np.ones((3, 3))), "full")
# What makes a training plain EM, in double precision and on all frames.
PLAIN: dict[str, Any] = {
    "iterations": [7],
    "llk_gain": float("-inf"),
    "precision": "double",
    "pruning": 0,
    "frames_per_component": None,
    "variance": {"floor": 0, "ceiling": float("inf")},
    "low_count": {"occupancy": 0},
    "full": {"floor": 0, "ceiling": float("inf"), "occupancy": 0, "prior": 0},
}


def own(mixture: GaussianMixture, values: np.ndarray) -> np.ndarray:
    """The covariances or precisions of a mixture in the shape that scikit-learn gives them."""
    return {"spherical": values[:, :1].ravel(), "tied": values[0]}.get(mixture.kind, values)


def plain(kind: str) -> GaussianMixture:
    keys = {key: PLAIN[key] for key in PLAIN if KINDS[kind].is_full or key != "full"}
    return gmmcore.train(FRAMES, 3, kind, init=to_kind(START, kind), threads=1, **keys).mixture


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:Best performing initialization did not converge")
def test_iterations_are_those_of_scikit_learn(kind: str) -> None:
    peers = pytest.importorskip("sklearn.mixture")
    start = to_kind(START, kind)
    peer = peers.GaussianMixture(
        3,
        covariance_type=kind,
        tol=0,
        reg_covar=0,
        max_iter=7,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=own(start, start.precisions),
    ).fit(FRAMES)
    mixture = plain(kind)
    assert mixture.kind == kind
    np.testing.assert_allclose(mixture.weights, peer.weights_, rtol=1e-9)
    np.testing.assert_allclose(mixture.means, peer.means_, rtol=1e-9, atol=1e-9)
    covariances = own(mixture, mixture.covariances)
    np.testing.assert_allclose(covariances, peer.covariances_, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        log_likelihood(mixture, FRAMES), peer.score_samples(FRAMES), rtol=1e-9
    )
    assert mixture.parameters == peer._n_parameters()
    model = GaussianMixtureModel.from_mixture(mixture)
    assert model.covariance_type == kind
    assert model.bic(FRAMES) == pytest.approx(peer.bic(FRAMES), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_from_one_gaussian(kind: str) -> None:
    training = gmmcore.train(FRAMES, 5, kind, iterations=[4], held_out=0.1, threads=1)
    mixture = training.mixture
    assert (mixture.kind, mixture.components) == (kind, 5)
    before = {"tied": "diag", "full": "diag"}.get(kind, kind)
    assert [*dict.fromkeys(training.history["stage"])] == [*dict.fromkeys([before, kind])]
    grown = training.history["gain"][training.history["iteration"] > 1]
    assert (grown[np.isfinite(grown)] > -1e-3).all()
    model = GaussianMixtureModel(5, covariance_type=kind, threads=1).fit(FRAMES)
    assert model.mixture_.kind == kind
    # Which of these mixtures the frames were drawn from, their likelihood tells.
    drawn = mixture.sample(20_000, seed=2)[0]
    np.testing.assert_allclose(drawn.mean(axis=0), mixture.overall_mean, atol=0.05)
    np.testing.assert_allclose(drawn.var(axis=0), mixture.overall_variance, rtol=0.05)


def test_more_parameters_fit_better() -> None:
    score = {kind: log_likelihood(plain(kind), FRAMES).mean() for kind in KINDS}
    assert score["full"] > max(score["tied"], score["diag"])
    assert score["diag"] > score["spherical"]


@pytest.mark.parametrize(("kind", "other"), [(a, b) for a in KINDS for b in KINDS if a != b])
def test_a_training_may_start_from_any_kind(kind: str, other: str) -> None:
    training = gmmcore.train(FRAMES, 3, kind, init=to_kind(START, other), iterations=[3], threads=1)
    assert training.mixture.kind == kind


@pytest.mark.parametrize("name", ["ubm.h5", "ubm.kaldi", "ubm.kaldi.txt", "ubm.mmf", "ubm.gmm"])
@pytest.mark.parametrize("kind", KINDS)
def test_files_have_diagonal_or_full_covariances(kind: str, name: str, tmp_path: Path) -> None:
    mixture = plain(kind)
    gmmcore.write_mixture(tmp_path / name, mixture)
    again = gmmcore.read_mixture(tmp_path / name)
    assert again.kind == ("full" if KINDS[kind].is_full else "diag")
    rounding = 1e-4 if name.startswith("ubm.k") or name == "ubm.mmf" else 1e-9
    expected = log_likelihood(mixture, FRAMES)
    np.testing.assert_allclose(log_likelihood(again, FRAMES), expected, atol=rounding)
