"""`GaussianMixtureModel`."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gmmcore
from gmmcore import GaussianMixture, GaussianMixtureModel, GmmcoreError, Mixture
from gmmcore.core.density import log_likelihood, posteriors

pytest.importorskip("sklearn")

TRUTH = GaussianMixture.from_covariances(
    [0.3, 0.7], [[-4.0, 0.0], [4.0, 1.0]], [[1.0, 2.0], [0.5, 1.0]]
)
FRAMES, COMPONENTS = TRUTH.sample(2000, seed=1)


def test_without_scikit_learn_one_line_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        for known in [*sys.modules]:
            if known == "gmmcore.interfaces.estimator" or known.split(".")[0] == "sklearn":
                patch.delitem(sys.modules, known)
        patch.setitem(sys.modules, "sklearn", None)
        with pytest.raises(GmmcoreError, match="pip install scikit-learn"):
            _ = gmmcore.GaussianMixtureModel
        with pytest.raises(GmmcoreError, match="pip install scikit-learn"):
            Mixture.from_gaussian_mixture(TRUTH).to_sklearn()


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"components": 1},
        {"components": 2, "held_out": 0.2},
        {"components": 2, "covariance": "full"},
        {"components": 2, "method": "sidekit"},
    ],
)
def test_the_checks_of_scikit_learn(params: dict[str, Any]) -> None:
    """No check is expected to fail."""
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    # What is skipped needs array libraries beside NumPy.
    checks.check_estimator(GaussianMixtureModel(**params), on_skip=None)


def test_it_is_an_estimator_of_scikit_learn() -> None:
    from sklearn.base import BaseEstimator
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    assert isinstance(GaussianMixtureModel(), BaseEstimator)
    pipeline = make_pipeline(StandardScaler(), GaussianMixtureModel(components=2))
    assert set(pipeline.fit(FRAMES).predict(FRAMES)) == {0, 1}
    search = GridSearchCV(GaussianMixtureModel(llk_gain=1e-3), {"components": np.arange(1, 4)})
    assert search.fit(FRAMES).best_params_["components"] >= 2


def test_what_is_fitted_is_the_trained_mixture() -> None:
    model = GaussianMixtureModel(components=2, held_out=0.1).fit(FRAMES)
    training = gmmcore.train(FRAMES, components=2, held_out=0.1)
    assert model.mixture_ == training.mixture
    assert model.held_out_ == training.held_out
    assert np.array_equal(model.weights_, training.mixture.weights)
    assert np.array_equal(model.means_, training.mixture.means)
    assert np.array_equal(model.covariances_, training.mixture.covariances)
    assert np.array_equal(model.precisions_, training.mixture.precisions)
    assert model.n_iter_ == len(training.entries)
    assert model.lower_bound_ == training.history["log_likelihood"][-1]
    assert model.n_features_in_ == 2
    assert GaussianMixtureModel(components=2, iterations=[1]).fit(FRAMES).converged_ is False
    assert GaussianMixtureModel(components=2, iterations=[50]).fit(FRAMES).converged_ is True


def test_methods_are_the_densities() -> None:
    model = GaussianMixtureModel(components=2, threads=2).fit(FRAMES)
    many = np.concatenate([FRAMES] * 5)  # More than one block.
    expected = log_likelihood(model.mixture_, many)
    np.testing.assert_allclose(model.score_samples(many), expected, rtol=1e-12)
    np.testing.assert_allclose(model.score(many), expected.mean(), rtol=1e-12)
    shares = posteriors(model.mixture_, many)
    np.testing.assert_allclose(model.predict_proba(many), shares, atol=1e-12)
    assert np.array_equal(model.predict(many), shares.argmax(axis=1))
    found = model.predict(FRAMES)
    assert max((found == COMPONENTS).mean(), (found != COMPONENTS).mean()) > 0.99
    again = GaussianMixtureModel.from_mixture(model)
    assert np.array_equal(again.score_samples(many), model.score_samples(many))
    assert all(map(np.array_equal, model.sample(9, seed=3), model.mixture_.sample(9, seed=3)))


@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_criteria_are_those_of_scikit_learn(covariance: str) -> None:
    peers = pytest.importorskip("sklearn.mixture")
    model = GaussianMixtureModel(components=2, covariance=covariance).fit(FRAMES)
    peer = peers.GaussianMixture(2, covariance_type=covariance, random_state=0).fit(FRAMES)
    mine = Mixture.from_gaussian_mixture(model.mixture_).to_sklearn()
    assert model.bic(FRAMES) == pytest.approx(mine.bic(FRAMES))
    assert model.aic(FRAMES) == pytest.approx(mine.aic(FRAMES))
    assert model.bic(FRAMES) == pytest.approx(peer.bic(FRAMES), rel=1e-3)


def test_files_and_memory_maps(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FRAMES.astype(np.float32))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    expected = GaussianMixtureModel(components=2).fit(mapped)
    for values in (tmp_path / "a.npy", [tmp_path / "a.npy"], tmp_path, [mapped]):
        model = GaussianMixtureModel(components=2).fit(values)
        assert model.mixture_ == expected.mixture_
        assert model.n_features_in_ == 2
        assert np.array_equal(model.score_samples(values), expected.score_samples(mapped))


def test_parameters_are_listed_and_set() -> None:
    model = GaussianMixtureModel(components=3, floor=0.02)
    assert model.get_params()["floor"] == 0.02
    assert model.set_params(components=2, seed=4) is model
    assert (model.components, model.seed) == (2, 4)
    assert "components=2" in repr(model)
    assert "llk_gain" not in repr(model)
    with pytest.raises(ValueError, match="Invalid parameter 'nothing'"):
        model.set_params(nothing=1)


def test_what_is_not_fitted_or_of_another_dimension() -> None:
    with pytest.raises(ValueError, match="not fitted yet"):
        GaussianMixtureModel().score(FRAMES)
    model = GaussianMixtureModel(components=2).fit(FRAMES)
    with pytest.raises(ValueError, match="X has 1 features, but GaussianMixtureModel is expecting"):
        model.predict(FRAMES[:, :1])
    with pytest.raises(ValueError, match="1"):
        GaussianMixtureModel(components=2).fit(FRAMES[:1])
    with pytest.raises(ValueError, match=r"NaN|not finite"):
        model.predict([[np.nan, 0.0]])
    with pytest.raises(GmmcoreError, match="mixture: a value of type int"):
        GaussianMixtureModel.from_mixture(3)


def test_one_component_needs_no_iteration() -> None:
    model = GaussianMixtureModel(components=1).fit(FRAMES)
    np.testing.assert_allclose(model.means_[0], FRAMES.mean(axis=0))
    np.testing.assert_allclose(model.covariances_[0], FRAMES.var(axis=0))
    assert (model.n_iter_, model.converged_) == (0, True)
    assert model.lower_bound_ == pytest.approx(model.score(FRAMES))


def test_a_file_of_a_mixture_scores(tmp_path: Path) -> None:
    gmmcore.write_mixture(tmp_path / "ubm.gmm", TRUTH)
    model = GaussianMixtureModel.from_mixture(tmp_path / "ubm.gmm", threads=1)
    assert (model.components, model.covariance, model.threads) == (2, "diag", 1)
    assert np.array_equal(model.score_samples(FRAMES), log_likelihood(TRUTH, FRAMES))
    kept = pickle.loads(pickle.dumps(model))  # noqa: S301
    assert np.array_equal(kept.score_samples(FRAMES), model.score_samples(FRAMES))
