"""``Mixture``: SIDEKIT's names over the core."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import gmmcore
from gmmcore import GaussianMixture, Mixture
from gmmcore.core.estep import accumulate
from gmmcore.core.kinds import to_kind
from gmmcore.core.schedule import SIDEKIT_ITERATIONS
from gmmcore.core.settings import MStep
from gmmcore.core.train import TrainingSettings, train
from gmmcore.errors import GmmcoreError


class Server:
    """The least that a features server is."""

    def __init__(self, shows: dict[str, np.ndarray]) -> None:
        self.shows = shows
        self.loaded: list[tuple[str, int | None, int | None]] = []

    def load(
        self, show: str, start: int | None = None, stop: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        self.loaded.append((show, start, stop))
        frames = self.shows[show][start:stop]
        return frames, np.ones(len(frames), bool)


def server(dtype: type = np.float32) -> Server:
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(4, 3)) * 6
    return Server(
        {
            f"s{i}": (centres[rng.integers(4, size=n)] + rng.normal(size=(n, 3))).astype(dtype)
            for i, n in enumerate((700, 300, 1000, 50))
        }
    )


SHOWS = ["s0", "s1", "s2", "s3"]


def trained(**options: object) -> tuple[Mixture, list[float]]:
    mixture = Mixture()
    llk = mixture.EM_split(server(), SHOWS, 4, iterations=(2, 4), **options)  # type: ignore[arg-type]
    return mixture, llk


def by_hand(mixture: Mixture, frames: np.ndarray) -> np.ndarray:
    full = mixture.invcov.ndim == 3
    return np.stack(
        [
            np.log(w)
            + multivariate_normal(m, np.linalg.inv(p if full else np.diag(p))).logpdf(frames)
            for w, m, p in zip(mixture.w, mixture.mu, mixture.invcov, strict=True)
        ],
        axis=1,
    )


def test_signatures_are_those_of_sidekit() -> None:
    expected = {
        "EM_split": "features_server, feature_list, distrib_nb, "
        "iterations=(1, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8, 8, 8), num_thread=1, llk_gain=0.01, "
        "save_partial=False, output_file_name='ubm', ceil_cov=10, floor_cov=0.01",
        "EM_uniform": "cep, distrib_nb, iteration_min=3, iteration_max=10, llk_gain=0.01, "
        "do_init=True",
        "EM_diag2full": "diagonal_mixture, features_server, featureList, iterations=2, "
        "num_thread=1",
        "compute_log_posterior_probabilities": "cep, mu=None",
        "compute_log_posterior_probabilities_full": "cep, mu=None",
        "read": "mixture_file_name, prefix=''",
        "write": "mixture_file_name, prefix='', mode='w'",
        "read_alize": "file_name",
        "write_alize": "mixture_file_name",
        "read_htk": "filename, begin_hmm=False, state2=False",
        "write_htk": "mixture_file_name",
        "init_from_diag": "diag_mixture",
        "merge": "model_list",
        "variance_control": "cov, flooring, ceiling, cov_ctl",
        "__init__": "mixture_file_name='', name='empty'",
    }  # fmt: skip
    for name, arguments in expected.items():
        signature = inspect.signature(getattr(Mixture, name))
        shown = [
            str(p.replace(annotation=p.empty)) for p in signature.parameters.values()
            if p.name != "self" and p.kind != p.KEYWORD_ONLY
        ]  # fmt: skip
        assert ", ".join(shown) == arguments, name


def test_the_package_exports_lazily() -> None:
    assert set(gmmcore.__all__) <= set(dir(gmmcore))
    assert set(gmmcore.__all__) == {name for name in dir(gmmcore) if not name.startswith("__")}
    assert "__version__" in dir(gmmcore)
    for name in gmmcore.__all__:
        assert getattr(gmmcore, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing"):
        _ = gmmcore.nothing


def test_an_empty_mixture() -> None:
    mixture = Mixture(name="x")
    assert mixture.name == "x"
    assert mixture.distrib_nb() == mixture.get_distrib_nb() == mixture.sv_size() == 0
    assert not mixture.validate()
    assert "empty" in repr(mixture)
    for method, given in (
        ("dim", ()),
        ("get_mean_super_vector", ()),
        ("get_invcov_super_vector", ()),
        ("to_sklearn", ()),
        ("sample", ()),
        ("_compute_all", ()),
        ("write", ("m.h5",)),
        ("compute_log_posterior_probabilities", (np.zeros((1, 2)),)),
        ("compute_log_posterior_probabilities_full", (np.zeros((1, 2)),)),
    ):
        refused("mixture x: it is empty", getattr(mixture, method), *given)
    options = {"distrib_nb": 2, "do_init": False}
    refused("mixture x: it is empty", mixture.EM_uniform, np.zeros((9, 2)), **options)


def test_split_training() -> None:
    mixture, llk = trained(llk_gain=-1)
    assert len(llk) == 6
    assert mixture.distrib_nb() == mixture.get_distrib_nb() == 4
    assert (mixture.dim(), mixture.sv_size()) == (3, 12)
    assert mixture.validate()
    assert np.all(np.diff(llk[2:]) >= -1e-9)
    assert mixture.get_mean_super_vector().tolist() == mixture.mu.ravel().tolist()
    assert mixture.get_invcov_super_vector().tolist() == mixture.invcov.ravel().tolist()
    # The variance of all frames, about their mean, is what floors refer to.
    frames = np.concatenate([server().shows[show] for show in SHOWS]).astype(float)
    np.testing.assert_allclose(mixture.cov_var_ctl, np.tile(frames.var(axis=0), (4, 1)), rtol=1e-9)


def test_threads_do_not_change_the_result() -> None:
    first, llk = trained()
    for threads in (2, 5):
        other, others = trained(num_thread=threads)
        assert others == llk
        assert other.gaussian_mixture() == first.gaussian_mixture()


def test_llk_gain_ends_stages_early() -> None:
    _, all_of_them = trained(llk_gain=-np.inf)
    _, few = trained(llk_gain=np.inf)
    assert len(all_of_them) == 6
    assert len(few) == 4  # the first of each stage has no gain yet
    assert few[:2] == all_of_them[:2]


def test_the_first_value_is_of_the_mixture_before_its_update() -> None:
    frames = np.concatenate([server().shows[show] for show in SHOWS]).astype(float)
    mixture = Mixture()
    (llk,) = mixture.EM_split(server(), SHOWS, 2, iterations=(1,))
    variance = frames.var(axis=0)
    shift = np.where(np.arange(3) == variance.argmax(), np.sqrt(variance), 0)
    logs = [
        np.log(0.5) + multivariate_normal(frames.mean(axis=0) + s, np.diag(variance)).logpdf(frames)
        for s in (-shift, shift)
    ]
    assert llk == pytest.approx(np.logaddexp(*logs).mean(), rel=1e-9)


def test_partial_mixtures_are_saved_before_each_split(tmp_path: Path) -> None:
    name = str(tmp_path / "ubm")
    trained(save_partial=True, output_file_name=name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ubm_1g.h5", "ubm_2g.h5"]
    assert Mixture(f"{name}_2g.h5").distrib_nb() == 2


def test_a_missing_folder_is_told_before_the_training(tmp_path: Path) -> None:
    source = server()
    for name in (tmp_path / "new" / "ubm", None):
        with pytest.raises(GmmcoreError, match=r"output_file_name: .*expected"):
            Mixture().EM_split(source, SHOWS, 4, save_partial=True, output_file_name=name)
    assert source.loaded == []
    assert list(tmp_path.iterdir()) == []


def test_floor_and_ceiling() -> None:
    mixture, _ = trained(floor_cov=0.9, ceil_cov=1.1)
    variances = 1 / mixture.invcov
    assert np.all(variances >= 0.9 * mixture.cov_var_ctl * (1 - 1e-12))
    assert np.all(variances <= 1.1 * mixture.cov_var_ctl * (1 + 1e-12))
    assert np.any(np.isclose(variances, 0.9 * mixture.cov_var_ctl))


def test_any_number_of_components() -> None:
    mixture = Mixture()
    mixture.EM_split(server(), SHOWS, 3, iterations=(2,))
    assert mixture.distrib_nb() == 3


def test_segments_of_an_idmap() -> None:
    segments = SimpleNamespace(
        leftids=np.array(["a", "a", "b"]),
        rightids=np.array(["s0", "s0", "s2"]),
        start=np.array([0, 500, None], dtype=object),
        stop=np.array([200, 700, None], dtype=object),
    )
    source = server()
    mixture = Mixture()
    llk = mixture.EM_split(source, segments, 2, iterations=(2,), llk_gain=-1)
    assert source.loaded == [("s0", 0, 200), ("s0", 500, 700), ("s2", None, None)]
    shows = server().shows
    pieces = {"x": shows["s0"][:200], "y": shows["s0"][500:], "z": shows["s2"]}
    expected = Mixture().EM_split(Server(pieces), ["x", "y", "z"], 2, iterations=(2,), llk_gain=-1)
    assert llk == expected


def test_each_show_is_loaded_once() -> None:
    source = server()
    Mixture().EM_split(source, SHOWS, 4, iterations=(3, 3))
    assert [show for show, _, _ in source.loaded] == SHOWS


def test_selected_frames_are_asked_for_as_sidekit_does() -> None:
    class Selecting(Server):
        keep_all_features = True

        def load(self, show, start=None, stop=None):  # type: ignore[no-untyped-def]
            assert self.keep_all_features is False
            return super().load(show, start, stop)

    source = Selecting(server().shows)
    Mixture().EM_split(source, SHOWS, 2)
    assert source.keep_all_features is True


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.array([[1.0, 2.0]]), r"show bad: frames of shape \(1, 2\), \(n, 3\) was expected"),
        (np.array([1.0]), "show bad: frames of shape"),
        (np.array([[1.0, 2.0, np.nan]]), "show bad: a frame holds a value that is not finite"),
    ],
)
def test_a_bad_show_is_named(frames: np.ndarray, message: str) -> None:
    source = server()
    source.shows["bad"] = frames
    with pytest.raises(GmmcoreError, match=message):
        Mixture().EM_split(source, ["s0", "bad"], 2)


def test_no_frames_and_no_list() -> None:
    with pytest.raises(GmmcoreError, match="no frames are left"):
        Mixture().EM_split(Server({"a": np.zeros((0, 3))}), ["a"], 2)


# Mistakes: one line each

FRAMES = server().shows["s0"]
NAN = np.where(np.arange(700)[:, np.newaxis] == 4, np.nan, FRAMES)
MASKED = np.ma.array(FRAMES, mask=FRAMES > 5)


def refused(message: str, function: Callable[..., object], *given: Any, **options: Any) -> None:
    with pytest.raises(GmmcoreError, match=message) as caught:
        function(*given, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_array_serves_as_features(dtype: type) -> None:
    frames = FRAMES.astype(dtype)
    one, other = Mixture(), Mixture()
    llk = one.EM_split(frames, None, 4)
    assert llk == other.EM_split(Server({"a": frames}), ["a"], 4)
    assert one.gaussian_mixture() == other.gaussian_mixture()
    llk = Mixture().EM_diag2full(one, frames, None)
    assert llk == Mixture().EM_diag2full(one, Server({"a": frames}), ["a"])


@pytest.mark.parametrize(
    ("source", "shows", "message"),
    [
        (FRAMES, SHOWS, "feature_list: .* expected None"),
        ([FRAMES, FRAMES], None, r"features_server: .*list; expected .*load\(show"),
        (None, SHOWS, "features_server: .*NoneType; expected"),
        (gmmcore.FeaturesServer, SHOWS, "features_server: the class FeaturesServer"),
        (FRAMES[:, 0], None, r"frames have shape \(700,\)"),
        (FRAMES[:0], None, "frames: none were given"),
        (FRAMES[:, :0], None, "frames have shape"),
        (NAN, None, "frame 4 .*not finite"),
        (MASKED, None, "frames: .*mask"),
        (FRAMES * 1j, None, "frames: .*complex64.*real numbers"),
        (FRAMES.astype(object), None, "frames: .*object.*real numbers"),
        (server(), None, "feature list: .*NoneType; a list of shows"),
        (server(), "s0", "feature list: .*str; a list of shows"),
        (server(), b"s0", "feature list: .*bytes; a list of shows"),
        (server(), 5, "feature list: .*int; a list of shows"),
        (server(), {"s0", "s1"}, "feature list: .*set; a list of shows"),
        (server(), [FRAMES], "feature list: .*ndarray where the name of a show was expected"),
        (server(), FRAMES, "feature list: .*ndarray where the name of a show was expected"),
        (server(), [b"s0"], "feature list: .*bytes where the name of a show was expected"),
        (server(), ["s0", None], "feature list: .*NoneType where the name of a show"),
        (server(), ["s0", "nothing"], "show nothing: .*KeyError"),
    ],
)
def test_frames_and_lists_that_are_none(source: Any, shows: Any, message: str) -> None:
    refused(message, Mixture().EM_split, source, shows, 2)
    diagonal = Mixture.from_gaussian_mixture(gmmcore.GaussianMixture([1], [[0] * 3], [[1] * 3]))
    refused(message, Mixture().EM_diag2full, diagonal, source, shows)


@pytest.mark.parametrize(
    ("start", "stop", "message"),
    [
        ([0], [None, None], "2 rightids, 1 start and 2 stop"),
        ([np.nan, 0], [None, None], "show s0: .*nan; expected a whole number"),
        ([1.5, 0], [None, None], "show s0: .*1.5; expected a whole number"),
        (["a", 0], [None, None], "show s0: .*'a'; expected a whole number"),
        ([0, 9], [None, 3], "show s1: .*from 9 to 3"),
    ],
)
def test_segments_that_are_none(start: list[Any], stop: list[Any], message: str) -> None:
    segments = SimpleNamespace(rightids=["s0", "s1"], start=start, stop=stop)
    refused(message, Mixture().EM_split, server(), segments, 2)


@pytest.mark.parametrize(
    ("loaded", "message"),
    [
        (None, r"show a: .*NoneType; expected \(frames, label\)"),
        (FRAMES, r"show a: .*ndarray; expected \(frames, label\)"),
        ((FRAMES,), r"show a: .*tuple and length 1; expected \(frames, label\)"),
        ((None, None), "show a: .*real numbers"),
        ((MASKED, None), "show a: .*mask"),
        ((FRAMES * 1j, None), "show a: .*real numbers"),
        (([[1.0], [2.0, 3.0]], None), "show a: .*rows of different lengths"),
        (OSError("it is gone"), "show a: .*it is gone"),
    ],
)
def test_answers_of_a_server_that_are_no_features(loaded: Any, message: str) -> None:
    def load(show: str) -> Any:
        if isinstance(loaded, Exception):
            raise loaded
        return loaded

    refused(message, Mixture().EM_split, SimpleNamespace(load=load), ["a"], 2)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("iterations", [(1, -2), (1.5,), 3, (), "12", None]),
        ("num_thread", [0, 1.5, None]),
        ("llk_gain", [np.nan, "a", None]),
        ("floor_cov", [-1, 20, np.nan, "a"]),
        ("ceil_cov", [np.nan, 1e-9]),
        ("distrib_nb", [0, -1, 2.5, "4", None, SHOWS, FRAMES]),
    ],
)
def test_settings_of_a_training_that_make_no_sense(name: str, values: list[Any]) -> None:
    source = server()
    for value in values:
        options = {"distrib_nb": 4, name: value}
        refused(f"{name}.*: .*expected", Mixture().EM_split, source, SHOWS, **options)
    assert source.loaded == []


def test_settings_of_other_trainings_that_make_no_sense() -> None:
    uniform, full = Mixture().EM_uniform, Mixture().EM_diag2full
    for value in (0, -1, 2.5, "4", None):
        refused("distrib_nb: .*expected", uniform, FRAMES, value)
    for name in ("iteration_min", "iteration_max"):
        for bad in (-1, 2.5, None):
            refused(f"{name}: .*expected", uniform, FRAMES, 2, **{name: bad})
    refused("llk_gain: nan", uniform, FRAMES, 2, llk_gain=np.nan)
    refused("distrib_nb: 7; expected 4", trained()[0].EM_uniform, FRAMES, 7, do_init=False)
    for given in (-1, 1.5, (1, 2)):
        refused("iterations: .*expected", full, trained()[0], server(), SHOWS, iterations=given)
    refused("num_thread: 0", full, trained()[0], server(), SHOWS, num_thread=0)
    for other in (None, "ubm.h5"):
        refused("expected a Mixture", full, other, server(), SHOWS)
        refused("expected a Mixture", Mixture().init_from_diag, other)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (MASKED, "frames: .*mask"),
        ([MASKED[0], MASKED[1]], "frames: .*mask"),
        (FRAMES * 1j, "frames: .*real numbers"),
        (FRAMES.astype(object), "frames: .*real numbers"),
        (None, "frames: .*real numbers"),
        ("abc", "frames: .*real numbers"),
        ([FRAMES, FRAMES[:3]], "frames: rows of different lengths"),
        ([FRAMES, FRAMES], "frames have shape"),
        ([], "frames have shape"),
        (NAN, "frame 4 .*not finite"),
    ],
)
def test_frames_that_are_none(frames: Any, message: str) -> None:
    mixture, _ = trained()
    refused(message, Mixture().EM_uniform, frames, 2)
    refused(message, mixture.compute_log_posterior_probabilities, frames)
    refused(message, mixture.compute_log_posterior_probabilities_full, frames)


def test_means_of_another_shape() -> None:
    mixture, _ = trained()
    logs = mixture.compute_log_posterior_probabilities
    for mu in (np.zeros(5), mixture.mu.T, "x", np.ma.array(mixture.mu, mask=True), [[1], [1, 2]]):
        refused("m(u|eans)", logs, FRAMES, mu)
    vector = mixture.get_mean_super_vector()
    np.testing.assert_array_equal(logs(FRAMES, vector[np.newaxis]), logs(FRAMES))


@pytest.mark.parametrize(
    "options",
    [
        {"feature_filename_structure": 5},
        {"sources": gmmcore.FeaturesServer()},
        {"sources": [gmmcore.FeaturesServer()]},
        {"dataset_list": 5},
        {"sdc": True, "sdc_config": 3},
        {"context": 5},
        {"context": (1, 2, 3)},
        {"context": (-1, 2)},
        {"context": (1.5, 2)},
    ],
)
def test_a_features_server_of_something_else(options: dict[str, Any]) -> None:
    refused("FeaturesServer: .*expected", gmmcore.FeaturesServer, **options)


def test_loading_something_else(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", FRAMES)
    features = gmmcore.FeaturesServer(feature_filename_structure=tmp_path / "{}.npy")
    assert len(features.load("x", start=np.int64(3))[0]) == 697
    for show in (5, None, tmp_path):
        refused("show: .*expected its name", features.load, show)
    refused("show x: start 0.5", features.load, "x", start=0.5)
    refused("1 labels; expected 700", features.load, "x", label=True)
    for bad in (MASKED, FRAMES * 1j, FRAMES[:, 0]):
        refused("(frames|feat): .*expected", features.get_context, bad)


def test_merging_what_does_not_fit() -> None:
    mixture, _ = trained()
    full, other = Mixture(), gmmcore.GaussianMixture([1], [[0, 0]], [[1, 1]])
    full.init_from_diag(mixture)
    for models, message in (
        ([], "model_list: .*expected"),
        (mixture, "model_list: .*expected"),
        (["a"], "expected a Mixture"),
        ([mixture, other], "dimension 2> beside .* dimension 3"),
        ([mixture, full], "full"),
        ([mixture, Mixture()], "it is empty"),
    ):
        refused(message, Mixture().merge, models)
    merged = Mixture()
    merged.merge([mixture.gaussian_mixture(), mixture])
    assert merged.distrib_nb() == 8


def test_variance_control_with_a_floor_above_its_ceiling() -> None:
    refused("flooring", Mixture.variance_control, np.ones((2, 3)), 10, 1, np.ones((2, 3)))


def test_uniform_training_uses_its_slices() -> None:
    rng = np.random.default_rng(5)
    centres = np.array([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]])
    frames = np.concatenate([c + rng.normal(size=(400, 2)) * [1, 2] for c in centres])
    mixture = Mixture()
    llk = mixture.EM_uniform(frames, 3, iteration_max=1)
    # Slices that are the clusters: one iteration leaves every component where it was.
    np.testing.assert_allclose(
        mixture.mu, [frames[i::1][:400].mean(axis=0) for i in (0, 400, 800)], atol=1e-6
    )
    np.testing.assert_allclose(
        1 / mixture.invcov, [frames[i : i + 400].var(axis=0) for i in (0, 400, 800)], rtol=1e-6
    )
    expected = np.log(1 / 3) + np.mean(
        [
            multivariate_normal(
                frames[i : i + 400].mean(axis=0), np.diag(frames[i : i + 400].var(axis=0))
            ).logpdf(frames[i : i + 400])
            for i in (0, 400, 800)
        ]
    )
    assert llk == [pytest.approx(expected, rel=1e-9)]


def test_uniform_training_stops_and_continues() -> None:
    frames = np.concatenate(list(server().shows.values())).astype(float)
    mixture = Mixture()
    assert len(mixture.EM_uniform(frames, 4, llk_gain=-1)) == 10
    assert len(mixture.EM_uniform(frames, 4, llk_gain=np.inf)) == 4
    assert len(mixture.EM_uniform(frames, 4, iteration_min=1, llk_gain=np.inf)) == 2
    before = mixture.gaussian_mixture()
    llk = mixture.EM_uniform(frames, 4, iteration_max=1, do_init=False)
    expected = np.logaddexp.reduce(by_hand(Mixture.from_gaussian_mixture(before), frames), axis=1)
    assert llk == [pytest.approx(expected.mean(), rel=1e-9)]


def test_diagonal_to_full() -> None:
    diagonal, _ = trained()
    diagonal.name = "speech"
    full = Mixture()
    llk = full.EM_diag2full(diagonal, server(), SHOWS, iterations=3)
    frames = np.concatenate([server().shows[show] for show in SHOWS]).astype(float)
    assert full.name == "speech"
    assert full.invcov.shape == full.invchol.shape == (4, 3, 3)
    assert len(llk) == 3
    assert llk[0] == pytest.approx(
        np.logaddexp.reduce(by_hand(diagonal, frames), axis=1).mean(), rel=1e-9
    )
    assert llk[0] < llk[1] < llk[2]
    # SIDEKIT overwrites the upper factor with the lower one, and this is wrong from then on.
    np.testing.assert_array_equal(full.invchol, np.triu(full.invchol))
    np.testing.assert_allclose(full.invchol.transpose(0, 2, 1) @ full.invchol, full.invcov)
    np.testing.assert_allclose(
        full.compute_log_posterior_probabilities_full(frames), by_hand(full, frames), rtol=1e-10
    )
    assert full.A.tolist() == [0.0] * 4
    with pytest.raises(GmmcoreError, match="only a diagonal mixture"):
        full.get_invcov_super_vector()


def test_init_from_diag() -> None:
    diagonal, _ = trained()
    full = Mixture()
    full.init_from_diag(diagonal)
    frames = server().shows["s3"]
    np.testing.assert_allclose(
        full.compute_log_posterior_probabilities(frames),
        diagonal.compute_log_posterior_probabilities(frames),
        rtol=1e-12,
    )
    assert full.invcov[2, 0, 1] == 0.0


def test_log_posterior_probabilities() -> None:
    mixture, _ = trained()
    frames = server().shows["s3"].astype(float)
    logs = mixture.compute_log_posterior_probabilities(frames)
    np.testing.assert_allclose(logs, by_hand(mixture, frames), rtol=1e-11)
    np.testing.assert_allclose(mixture.compute_log_posterior_probabilities(frames[0]), logs[:1])
    # A mean super-vector, as after an adaptation.
    moved = copy.deepcopy(mixture)
    moved.mu = mixture.mu + 1
    super_vector = moved.get_mean_super_vector()
    np.testing.assert_array_equal(
        mixture.compute_log_posterior_probabilities(frames, super_vector),
        moved.compute_log_posterior_probabilities(frames),
    )


def test_constants_are_those_of_sidekit() -> None:
    mixture, _ = trained()
    det = 1 / mixture.invcov.prod(axis=1)
    cst = (2 * np.pi) ** -1.5 * det**-0.5
    np.testing.assert_allclose(mixture.det, det)
    np.testing.assert_allclose(mixture.cst, cst)
    np.testing.assert_allclose(
        mixture.A,
        (mixture.mu**2 * mixture.invcov).sum(axis=1) - 2 * (np.log(mixture.w) + np.log(cst)),
    )


def test_overflowing_constants_do_no_harm() -> None:
    # SIDEKIT's product of variances overflows, and everything computed from it is NaN.
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(500, 400)) * 100
    mixture = Mixture()
    llk = mixture.EM_split(Server({"a": frames}), ["a"], 2, iterations=(2,), llk_gain=-1)
    assert np.isfinite(llk).all()
    assert np.isinf(mixture.det).all()
    assert (mixture.cst == 0).all()
    assert np.isfinite(mixture.A).all()
    assert np.isfinite(mixture.compute_log_posterior_probabilities(frames)).all()


def test_keywords_give_the_numbers_of_the_workflow() -> None:
    frames = np.random.default_rng(3).normal(size=(600, 4)) @ np.triu(np.ones((4, 4)))
    mixture = Mixture()
    mixture.EM_split(frames, None, 6, method="principal", frames_per_component=50, occupancy=3)
    settings = TrainingSettings(
        precision="double",
        pruning=0.0,
        frames_per_component=50,
        diag=MStep(floor=0.01, ceiling=10, occupancy=3),
        robust=False,
        last_gain=np.inf,
    )
    expected, _ = train(frames, 6, SIDEKIT_ITERATIONS, settings=settings)
    assert mixture.gaussian_mixture() == expected
    shrunk, plain, again = Mixture(), Mixture(), Mixture()
    shrunk.EM_diag2full(mixture, frames, None, 1, prior=30, occupancy=0)
    plain.EM_diag2full(mixture, frames, None, 1)
    again.EM_diag2full(mixture, frames, None, 1, prior=0, occupancy=10, seed=5)
    assert plain.gaussian_mixture() == again.gaussian_mixture()
    count = accumulate(expected, frames).count
    own = plain.gaussian_mixture().covariances
    variances = np.diagonal(own, axis1=1, axis2=2)
    pooled = np.einsum("c,cij->ij", count, own)
    pooled /= np.sqrt(np.multiply.outer(np.diag(pooled), np.diag(pooled)))
    common = pooled * np.sqrt(variances[:, :, None] * variances[:, None, :])
    share = (count / (count + 30))[:, None, None]
    wanted = share * own + (1 - share) * common
    np.testing.assert_allclose(shrunk.gaussian_mixture().covariances, wanted, rtol=1e-8)
    some = Mixture()
    some.EM_diag2full(mixture, frames, None, 1, prior=None, occupancy=None, frames_per_component=9)
    assert some.gaussian_mixture() != plain.gaussian_mixture()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"method": "halve"}, "method: 'halve'; expected one of sidekit, principal"),
        ({"method": 3}, "method: 3; expected one of"),
        ({"occupancy": -1}, "occupancy: -1; expected a number of frames, 0 or more"),
        ({"occupancy": np.inf}, "occupancy: inf; expected"),
        ({"frames_per_component": 0}, "frames_per_component: 0; expected a whole number, 1 or"),
        ({"seed": -1}, "seed: -1; expected a whole number"),
    ],
)
def test_keywords_are_checked(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(GmmcoreError, match=message):
        Mixture().EM_split(np.zeros((9, 2)), None, 2, **keywords)
    if "method" not in keywords:
        diagonal = Mixture.from_gaussian_mixture(GaussianMixture([1], [[0, 0]], [[1, 1]]))
        with pytest.raises(GmmcoreError, match=message):
            Mixture().EM_diag2full(diagonal, np.zeros((9, 2)), None, **keywords)


def test_a_component_without_frames_stays_finite() -> None:
    # SIDEKIT divides by its occupancy.
    mixture = Mixture()
    mixture.w = np.array([0.5, 0.5])
    mixture.mu = np.array([[0.0, 0.0], [1e6, 1e6]])
    mixture.invcov = np.ones((2, 2))
    mixture._compute_all()
    frames = np.random.default_rng(0).normal(size=(300, 2))
    llk = mixture.EM_uniform(frames, 2, iteration_max=3, do_init=False)
    assert np.isfinite(llk).all()
    assert mixture.validate()
    assert mixture.mu[1].tolist() == [1e6, 1e6]


def test_attributes_may_be_set_as_in_sidekit() -> None:
    mixture = Mixture()
    mixture.w = np.array([0.5, 0.5])
    mixture.mu = np.zeros((2, 3), dtype=np.float32)
    mixture.invcov = np.ones((2, 3))
    assert not mixture.validate()
    mixture._compute_all()
    assert mixture.validate()
    mixture.w[0] = -1
    assert not mixture.validate()


def test_variance_control() -> None:
    cov = np.array([[0.001, 0.5, 50.0]])
    controlled = Mixture.variance_control(cov, 0.01, 10, np.array([[1.0, 1.0, 2.0]]))
    assert controlled.tolist() == [[0.01, 0.5, 20.0]]


def test_merged_mixtures_have_a_kind_that_holds_all() -> None:
    diagonal = GaussianMixture([1.0], [[0.0, 0.0]], [[1.0, 2.0]])
    for kind, beside, both in (("spherical", "diag", "diag"), ("tied", "full", "full")):
        one, other = to_kind(diagonal, kind), to_kind(diagonal, beside)
        for parts in ([one, other], [other, one]):
            assert GaussianMixture.merged(parts).kind == both
        assert GaussianMixture.merged([one, one]).kind == ("full" if kind == "tied" else kind)


def test_merge() -> None:
    one, _ = trained()
    other = Mixture()
    other.EM_split(server(), SHOWS, 2, iterations=(1,))
    merged = Mixture()
    merged.merge([one, other])
    assert merged.distrib_nb() == 6
    np.testing.assert_allclose(merged.w, np.concatenate([one.w, other.w]) / 2)
    assert merged.validate()
    assert merged.cov_var_ctl.shape == (6, 3)


def test_files(tmp_path: Path) -> None:
    mixture, _ = trained()
    full = Mixture()
    full.init_from_diag(mixture)
    for one in (mixture, full):
        core = one.gaussian_mixture()
        one.write(tmp_path / "m.h5")
        assert Mixture(str(tmp_path / "m.h5")).gaussian_mixture() == core
        one.write(tmp_path / "m.h5", prefix="b/", mode="a")
        again = Mixture()
        again.read(tmp_path / "m.h5", prefix="b/")
        assert again.gaussian_mixture() == core
        one.write_alize(tmp_path / "m.gmm")
        read = Mixture.read_alize(file_name=tmp_path / "m.gmm")
        assert read.cov_var_ctl.size == 0
        assert np.array_equal(read.invcov, one.invcov)
        one.write_htk(tmp_path / "m.mmf")
        np.testing.assert_allclose(Mixture.read_htk(tmp_path / "m.mmf").mu, one.mu, rtol=1e-6)
    with pytest.raises(GmmcoreError, match="mode 'x'"):
        mixture.write(tmp_path / "m.h5", mode="x")
    with pytest.raises(GmmcoreError, match="cannot be read as ALIZE RAW"):
        Mixture.read_alize(tmp_path / "m.mmf")
    with pytest.raises(GmmcoreError, match=r"m\.mmf: begin_hmm or state2, which read a part"):
        Mixture.read_htk(tmp_path / "m.mmf", state2=True)


def test_an_extension_of_another_format_is_refused(tmp_path: Path) -> None:
    mixture, _ = trained()
    for method, names in (
        ("write", ("a.dubm", "a.txt", "a.gmm", "a.XML", "a.mmf")),
        ("write_alize", ("a.h5", "a.xml")),
        ("write_htk", ("a.gmm",)),
    ):
        for name in names:
            refused(f"{name}: .*write_mixture", getattr(mixture, method), tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    for name in ("ubm", "ubm.model", "ubm.512"):
        mixture.write(tmp_path / name)
        assert Mixture(tmp_path / name).gaussian_mixture() == mixture.gaussian_mixture()


def test_names_of_files_that_are_none() -> None:
    for given in (None, 5, FRAMES):
        refused("expected the name of a file", Mixture, given)
        refused("expected the name of a file", trained()[0].write, given)


def test_copies_and_pickles() -> None:
    mixture, _ = trained()
    for other in (copy.deepcopy(mixture), pickle.loads(pickle.dumps(mixture))):  # noqa: S301
        assert other.gaussian_mixture() == mixture.gaussian_mixture()


# Densities against scipy


@pytest.mark.parametrize("dimension", [1, 2, 20, 60, 200])
@pytest.mark.parametrize("condition", [1e2, 1e4, 1e6, 1e8])
def test_full_densities_equal_those_of_scipy(dimension: int, condition: float) -> None:
    rng = np.random.default_rng(dimension)
    # Correlated coefficients of very different scale: what makes the condition of features.
    spread = rng.normal(size=(dimension, 4 * dimension))
    correlation = np.corrcoef(spread).reshape(dimension, dimension)
    scale = np.geomspace(1, np.sqrt(condition), dimension)
    covariance = correlation * scale * scale[:, np.newaxis]
    mean = rng.normal(size=dimension) * scale
    # numpy's own way draws from eigenvalues, of which rounding makes negative ones.
    drawn = rng.normal(size=(50, dimension)) @ np.linalg.cholesky(correlation).T
    frames = mean + scale * drawn
    mixture = gmmcore.GaussianMixture.from_covariances(
        [1], mean[np.newaxis], covariance[np.newaxis]
    )
    ours = Mixture.from_gaussian_mixture(mixture).compute_log_posterior_probabilities_full(frames)
    # scipy's eigenvalues lose digits to the condition; in units of the deviations it has them.
    theirs = multivariate_normal(np.zeros(dimension), correlation).logpdf((frames - mean) / scale)
    np.testing.assert_allclose(ours[:, 0], theirs - np.log(scale).sum(), rtol=1e-12)
    direct = multivariate_normal(mean, covariance).logpdf(frames)
    np.testing.assert_allclose(ours[:, 0], direct, rtol=1e-10 if condition < 1e8 else 1e-9)


@pytest.mark.parametrize("dimension", [2, 20, 200])
@pytest.mark.parametrize("condition", [1e2, 1e4, 1e6, 1e8])
def test_full_densities_of_rotated_covariances(dimension: int, condition: float) -> None:
    # Here the data themselves decide the density to about eps x condition only, whoever
    # computes it: scipy's own values are as far from those of exact arithmetic.
    rng = np.random.default_rng(dimension)
    axes = np.linalg.qr(rng.normal(size=(dimension, dimension)))[0]
    values = np.geomspace(condition**-0.5, condition**0.5, dimension)
    covariance = (axes * values) @ axes.T
    covariance = 0.5 * (covariance + covariance.T)
    mean = rng.normal(size=dimension)
    frames = mean + rng.normal(size=(50, dimension)) @ (axes * np.sqrt(values)).T
    mixture = gmmcore.GaussianMixture.from_covariances(
        [1], mean[np.newaxis], covariance[np.newaxis]
    )
    theirs = multivariate_normal(mean, covariance).logpdf(frames)
    ours = Mixture.from_gaussian_mixture(mixture).compute_log_posterior_probabilities(frames)[:, 0]
    np.testing.assert_allclose(ours, theirs, rtol=max(1e-10, 2e-16 * condition))


def test_diagonal_densities_of_extreme_variances_are_finite() -> None:
    variances = 10.0 ** np.arange(-30, 31, 5)
    mixture = Mixture()
    mixture.w = np.ones(1)
    mixture.mu = np.zeros((1, len(variances)))
    mixture.invcov = 1 / variances[np.newaxis]
    frames = np.random.default_rng(0).normal(size=(20, len(variances))) * np.sqrt(variances)
    expected = multivariate_normal(0, 1).logpdf((frames / np.sqrt(variances)).ravel())
    expected = expected.reshape(frames.shape).sum(axis=1) - 0.5 * np.log(variances).sum()
    logs = mixture.compute_log_posterior_probabilities(frames)[:, 0]
    np.testing.assert_allclose(logs, expected, rtol=1e-12)
    far = mixture.compute_log_posterior_probabilities(np.full((1, len(variances)), 1e3))
    assert np.isfinite(far).all()


# scikit-learn


@pytest.mark.parametrize("full", [False, True])
def test_to_scikit_learn_and_back(full: bool) -> None:
    pytest.importorskip("sklearn")
    mixture, _ = trained()
    if full:
        diagonal = mixture
        mixture = Mixture()
        mixture.EM_diag2full(diagonal, server(), SHOWS)
    estimator = mixture.to_sklearn()
    frames = server(np.float64).shows["s2"]
    np.testing.assert_allclose(
        estimator.score_samples(frames),
        np.logaddexp.reduce(mixture.compute_log_posterior_probabilities(frames), axis=1),
        rtol=1e-10,
    )
    assert estimator.sample(10)[0].shape == (10, 3)
    again = Mixture.from_sklearn(estimator)
    np.testing.assert_allclose(again.w, mixture.w, rtol=1e-15)
    np.testing.assert_array_equal(again.mu, mixture.mu)
    np.testing.assert_array_equal(again.invcov, mixture.invcov)
    estimator.tol = 1.0
    # It continues from these parameters instead of starting anew.
    estimator.fit(frames)
    assert np.abs(estimator.means_ - mixture.mu).max() < 1


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_from_a_fitted_scikit_learn_mixture(kind: str) -> None:
    sklearn = pytest.importorskip("sklearn.mixture")
    frames = server(np.float64).shows["s2"]
    estimator = sklearn.GaussianMixture(4, covariance_type=kind, random_state=0).fit(frames)
    mixture = Mixture.from_sklearn(estimator)
    np.testing.assert_allclose(
        np.logaddexp.reduce(mixture.compute_log_posterior_probabilities(frames), axis=1),
        estimator.score_samples(frames),
        rtol=1e-9,
    )
    with pytest.raises(GmmcoreError, match="not fitted"):
        Mixture.from_sklearn(sklearn.GaussianMixture(4, covariance_type=kind))
