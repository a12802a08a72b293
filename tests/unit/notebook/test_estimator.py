"""`GaussianMixtureModel`."""

from __future__ import annotations

import math
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gmmcore
from gmmcore import GaussianMixture, GaussianMixtureModel, GmmcoreError, Mixture
from gmmcore.core.density import log_likelihood, posteriors
from gmmcore.core.kinds import KINDS
from gmmcore.formats.sklearn import from_sklearn, to_sklearn

pytest.importorskip("sklearn")

from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as PeerMixture

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
        {"n_components": 2, "held_out": 0.2},
        {"n_components": 2, "covariance_type": "diag"},
        {"n_components": 2, "covariance_type": "tied"},
        {"n_components": 2, "keys": {"method": "sidekit"}},
    ],
)
@pytest.mark.filterwarnings("ignore:.*(frames are .* for each|at its floor)")
def test_the_checks_of_scikit_learn(params: dict[str, Any]) -> None:
    """No check fails without a reason."""
    failing = {}
    if "held_out" in params:
        name = "check_sample_weight_equivalence_on_dense_data"
        failing[name] = "other frames are held out if frames are repeated"
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    # What is skipped needs array libraries beside NumPy.
    checks.check_estimator(
        GaussianMixtureModel(**params),
        on_skip=None,
        on_fail="raise",
        expected_failed_checks=failing,
    )


def test_it_is_an_estimator_of_scikit_learn() -> None:
    from sklearn.base import BaseEstimator
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    assert isinstance(GaussianMixtureModel(), BaseEstimator)
    pipeline = make_pipeline(StandardScaler(), GaussianMixtureModel(2, covariance_type="diag"))
    assert set(pipeline.fit(FRAMES).predict(FRAMES)) == {0, 1}
    search = GridSearchCV(GaussianMixtureModel(tol=1e-2), {"n_components": np.arange(1, 4)})
    assert search.fit(FRAMES).best_params_["n_components"] >= 2


def test_the_last_stage_ends_at_tol() -> None:
    fits = [GaussianMixtureModel(3, tol=tol).fit(FRAMES) for tol in (0.1, 1e-3, 1e-5)]
    done = [model.n_iter_ for model in fits]
    assert done[0] < done[1] < done[2], done
    assert all(np.diff(model.lower_bounds_)[-2] > model.tol for model in fits if model.n_iter_ > 3)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_fitted_is_the_trained_mixture(kind: str) -> None:
    model = GaussianMixtureModel(3, covariance_type=kind, held_out=0.1).fit(FRAMES)
    bounds = {"floor": 1e-6, "ceiling": math.inf}
    keys: dict[str, Any] = {"llk_gain": 1e-3, "precision": "double", "variance": bounds}
    if KINDS[kind].is_full:
        keys["full"] = {"iterations": 100, **bounds}
    else:
        keys["iterations"] = [1, 100]
    training = gmmcore.train(FRAMES, 3, kind, 0.1, **keys)
    assert model.mixture_ == training.mixture
    assert model.held_out_ == training.held_out
    assert model.lower_bound_ == training.history["log_likelihood"][-1]
    last = (training.history["stage"] == kind) & (training.history["components"] == 3)
    assert model.lower_bounds_ == training.history["log_likelihood"][last].tolist()
    assert model.n_iter_ == last.sum() > 1
    assert model.n_features_in_ == 2
    assert model.converged_ is True
    peer = to_sklearn(training.mixture)
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        np.testing.assert_array_equal(getattr(model, name), getattr(peer, name))
    with pytest.warns(ConvergenceWarning, match="did not converge") as caught:
        assert GaussianMixtureModel(3, max_iter=1).fit(FRAMES).converged_ is False
    assert [one.filename for one in caught] == [__file__]


def overlapping(kind: str) -> np.ndarray:
    """Return frames that are hard to divide, with some of them repeated."""
    rng = np.random.default_rng(3)
    return rng.gamma(2.0, size=(400, 3)) @ rng.normal(size=(3, 3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("init_params", ["divide", "kmeans"])
def test_a_weight_is_a_number_of_frames(kind: str, init_params: str) -> None:
    frames = overlapping(kind)
    counts = np.random.default_rng(4).integers(0, 4, len(frames))
    given = {"covariance_type": kind, "init_params": init_params, "tol": 1e-2}
    if init_params == "kmeans":  # With other random numbers for repeated frames.
        given["means_init"] = frames[:3]
    weighted = GaussianMixtureModel(3, **given).fit(frames, sample_weight=counts)
    repeated = GaussianMixtureModel(3, **given).fit(np.repeat(frames, counts, axis=0))
    for name in ("weights_", "means_", "covariances_", "lower_bounds_"):
        found, expected = getattr(weighted, name), getattr(repeated, name)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    # Only their proportions count if there are fewer of them than frames.
    tiny = GaussianMixtureModel(3, **given).fit(frames, sample_weight=counts / 1e6)
    assert np.isfinite(tiny.score(frames))
    held = GaussianMixtureModel(3, held_out=0.2, **given).fit(frames, sample_weight=counts)
    assert np.isfinite(held.held_out_)


def test_weights_that_make_no_sense() -> None:
    for weights in (-np.ones(2000), np.ones(3), np.full(2000, np.nan)):
        with pytest.raises(ValueError, match=r"sample_weight|Input"):
            GaussianMixtureModel(2).fit(FRAMES, sample_weight=weights)
    with pytest.raises(GmmcoreError, match="sample_weight: given with frames in files"):
        GaussianMixtureModel(2).fit([FRAMES], sample_weight=np.ones(2000))
    with pytest.raises(ValueError, match="n_components = 5, n_samples = 4"):
        GaussianMixtureModel(5).fit(FRAMES, sample_weight=np.arange(2000) < 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"components": 2}, "no parameter components; did you mean n_components"),
        ({"covariance": "full"}, "no parameter covariance; did you mean covariance_type"),
        ({"llk_gain": 1}, "did you mean tol"),
        ({"iterations": [2]}, "did you mean max_iter"),
        ({"seed": 2}, "did you mean random_state"),
        ({"maxiter": 2}, "did you mean max_iter"),
        ({"device": "cuda"}, "give it as keys={'device': ...}"),
        ({"zzz": 2}, "lists them"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_one(given: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        GaussianMixtureModel(**given)


def test_more_iterations_than_files_count_are_as_many_as_they_count() -> None:
    for kind in KINDS:
        model = GaussianMixtureModel(2, covariance_type=kind, max_iter=1000).fit(FRAMES)
        assert model.converged_
    with pytest.raises(GmmcoreError, match=r"^keys: components .* did you mean n_components"):
        GaussianMixtureModel(2, keys={"components": 4}).fit(FRAMES)


def test_a_mixture_of_scikit_learn_is_a_mixture(tmp_path: Path) -> None:
    peer = PeerMixture(2, random_state=0)
    with pytest.raises(GmmcoreError, match="not fitted"):
        gmmcore.write_mixture(tmp_path / "ubm.h5", peer)
    expected = from_sklearn(peer.fit(FRAMES))
    for one in (peer, GaussianMixtureModel.from_mixture(peer)):
        gmmcore.write_mixture(tmp_path / "ubm.h5", one)
        assert np.array_equal(gmmcore.read_mixture(tmp_path / "ubm.h5").means, expected.means)
        assert GaussianMixtureModel(2, init=one, max_iter=0).fit(FRAMES).mixture_ == expected
        assert gmmcore.train(FRAMES, 2, "full", init=one).mixture.is_full


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_of_several_trainings_is_kept(kind: str) -> None:
    frames = overlapping(kind)
    bounds = [
        GaussianMixtureModel(5, covariance_type=kind, n_init=n, random_state=2)
        .fit(frames)
        .lower_bound_
        for n in (1, 2, 4)
    ]
    assert bounds == sorted(bounds)
    one, other = (GaussianMixtureModel(5, n_init=3, random_state=7).fit(frames) for _ in range(2))
    assert one.mixture_ == other.mixture_


def test_methods_are_the_densities() -> None:
    model = GaussianMixtureModel(2, threads=2).fit(FRAMES)
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
    model.set_params(random_state=3)
    assert all(map(np.array_equal, model.sample(9), model.mixture_.sample(9, seed=3)))


@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_criteria_are_those_of_scikit_learn(covariance: str) -> None:
    peers = pytest.importorskip("sklearn.mixture")
    model = GaussianMixtureModel(2, covariance_type=covariance).fit(FRAMES)
    peer = peers.GaussianMixture(2, covariance_type=covariance, random_state=0).fit(FRAMES)
    mine = Mixture.from_gaussian_mixture(model.mixture_).to_sklearn()
    assert model.bic(FRAMES) == pytest.approx(mine.bic(FRAMES))
    assert model.aic(FRAMES) == pytest.approx(mine.aic(FRAMES))
    assert model.bic(FRAMES) == pytest.approx(peer.bic(FRAMES), rel=1e-3)


def test_files_and_memory_maps(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FRAMES.astype(np.float32))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    expected = GaussianMixtureModel(2, covariance_type="diag").fit(mapped)
    for values in (tmp_path / "a.npy", [tmp_path / "a.npy"], tmp_path, [mapped]):
        model = GaussianMixtureModel(2, covariance_type="diag").fit(values)
        assert model.mixture_ == expected.mixture_
        assert model.n_features_in_ == 2
        assert np.array_equal(model.score_samples(values), expected.score_samples(mapped))


def test_parameters_are_listed_and_set() -> None:
    model = GaussianMixtureModel(3, reg_covar=0.02)
    assert model.get_params()["reg_covar"] == 0.02
    assert model.set_params(n_components=2, random_state=4) is model
    assert (model.n_components, model.random_state) == (2, 4)
    assert "n_components=2" in repr(model)
    assert "tol" not in repr(model)
    with pytest.raises(ValueError, match=r"Invalid parameter 'components'.*n_components"):
        model.set_params(components=1)


def test_parameters_of_scikit_learn_have_its_defaults() -> None:
    peer, model = PeerMixture().get_params(), GaussianMixtureModel().get_params()
    other = {name for name, value in peer.items() if model[name] != value}
    assert other == {"init_params"}


@pytest.mark.filterwarnings("ignore:Best performing")
def test_a_training_goes_on() -> None:
    model = GaussianMixtureModel.from_mixture(TRUTH, warm_start=True).fit(FRAMES)
    assert model.n_iter_ <= 3
    np.testing.assert_allclose(model.means_, TRUTH.means, atol=0.1)
    bounds = model.set_params(max_iter=1, tol=0.0).fit(FRAMES).lower_bounds_
    assert bounds == [pytest.approx(model.fit(FRAMES).lower_bound_, abs=1e-4)]
    # Other frames need another Gaussian, which no iteration finds.
    one = GaussianMixtureModel(warm_start=True).fit(FRAMES).fit(FRAMES + 9)
    np.testing.assert_allclose(one.means_[0], FRAMES.mean(axis=0) + 9)


def test_iterations_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    GaussianMixtureModel(2, verbose=1, verbose_interval=1, tol=0, max_iter=3).fit(FRAMES)
    assert "full 2, iteration 3: log-likelihood per frame -" in capsys.readouterr().out


def test_what_is_not_fitted_or_of_another_dimension() -> None:
    with pytest.raises(ValueError, match="not fitted yet"):
        GaussianMixtureModel().score(FRAMES)
    model = GaussianMixtureModel(2, covariance_type="diag").fit(FRAMES)
    with pytest.raises(ValueError, match="X has 1 features, but GaussianMixtureModel is expecting"):
        model.predict(FRAMES[:, :1])
    with pytest.raises(ValueError, match="1"):
        GaussianMixtureModel(2, covariance_type="diag").fit(FRAMES[:1])
    with pytest.raises(ValueError, match=r"NaN|not finite"):
        model.predict([[np.nan, 0.0]])
    with pytest.raises(GmmcoreError, match="mixture: a value of type int"):
        GaussianMixtureModel.from_mixture(3)


def test_one_component_needs_no_iteration() -> None:
    model = GaussianMixtureModel(covariance_type="diag").fit(FRAMES)
    np.testing.assert_allclose(model.means_[0], FRAMES.mean(axis=0))
    np.testing.assert_allclose(model.covariances_[0], FRAMES.var(axis=0))
    assert (model.n_iter_, model.converged_) == (1, True)
    assert model.lower_bound_ == pytest.approx(model.score(FRAMES))


def test_a_file_of_a_mixture_scores(tmp_path: Path) -> None:
    gmmcore.write_mixture(tmp_path / "ubm.gmm", TRUTH)
    model = GaussianMixtureModel.from_mixture(tmp_path / "ubm.gmm", threads=1)
    assert (model.n_components, model.covariance_type, model.threads) == (2, "diag", 1)
    assert np.array_equal(model.score_samples(FRAMES), log_likelihood(TRUTH, FRAMES))
    kept = pickle.loads(pickle.dumps(model))  # noqa: S301
    assert np.array_equal(kept.score_samples(FRAMES), model.score_samples(FRAMES))
