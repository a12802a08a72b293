"""`gmmcore.train`: arrays, memory maps and files give what the core and the workflow give."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from features_files import write_hdf5
from scipy.sparse import csr_array

import gmmcore
from gmmcore import GaussianMixture, GmmcoreError, Mixture
from gmmcore.core.density import log_likelihood
from gmmcore.core.frames import ArraySource
from gmmcore.core.history import HistoryEntry, history_table
from gmmcore.interfaces.frames import divided, opened

TRUTH = GaussianMixture.from_covariances(
    [0.2, 0.3, 0.5], [[-6.0, 0.0], [0.0, 4.0], [6.0, 0.0]], [[1.0, 2.0], [0.5, 1.0], [2.0, 1.0]]
)
FRAMES = TRUTH.sample(3000, seed=1)[0].astype(np.float32)
QUICK: dict[str, Any] = {"components": 3, "iterations": [4], "threads": 1}


def shows_of(frames: np.ndarray, number: int = 6) -> list[np.ndarray]:
    return np.array_split(frames, number)


def test_the_true_mixture_is_found() -> None:
    training = gmmcore.train(FRAMES, components=3, iterations=[50], llk_gain=1e-6)
    order = training.mixture.means[:, 0].argsort()
    np.testing.assert_allclose(training.mixture.weights[order], TRUTH.weights, atol=0.03)
    np.testing.assert_allclose(training.mixture.means[order], TRUTH.means, atol=0.15)
    np.testing.assert_allclose(training.mixture.covariances[order], TRUTH.covariances, rtol=0.2)


def test_it_is_the_loop_of_the_core() -> None:
    mixture, history = gmmcore.core.train.train(ArraySource(FRAMES), 3, [4])
    training = gmmcore.train(FRAMES, precision="single", **QUICK)
    assert training.mixture == mixture
    assert history_table(training.entries) == history_table(history)


def test_arrays_memory_maps_files_and_lists_are_the_same_frames(tmp_path: Path) -> None:
    expected = gmmcore.train(FRAMES, **QUICK).mixture
    np.save(tmp_path / "all.npy", FRAMES)
    paths = []
    for number, show in enumerate(shows_of(FRAMES)):
        paths.append(tmp_path / "shows" / f"s{number}.h5")
        write_hdf5(paths[-1], f"s{number}", show, None)
    (tmp_path / "list.txt").write_text("".join(f"s{number}\n" for number in range(6)))
    with_pattern = {"root": str(tmp_path / "shows"), "pattern": "{show}.h5"}
    for values, features in [
        (np.load(tmp_path / "all.npy", mmap_mode="r"), None),
        (np.asfortranarray(FRAMES), None),
        (ArraySource(FRAMES), None),
        (tmp_path / "all.npy", None),
        (shows_of(FRAMES), None),
        (paths, None),
        ([*map(str, paths)], None),
        (tmp_path / "shows", None),
        (str(tmp_path / "list.txt"), with_pattern),
    ]:
        assert gmmcore.train(values, features=features, **QUICK).mixture == expected, values


def test_files_are_processed_as_in_the_workflow(tmp_path: Path) -> None:
    speech = np.arange(len(FRAMES)) % 3 > 0
    write_hdf5(tmp_path / "a.h5", "a", FRAMES, speech)
    assert opened([tmp_path / "a.h5"]).frames == speech.sum()
    source = opened([tmp_path / "a.h5"], {"normalisation": "cmvn", "delta": True})
    values = source.read(0, source.frames)
    assert values.shape == (speech.sum(), 4)
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(values.std(axis=0), 1, atol=1e-4)


def test_threads_do_not_change_the_result() -> None:
    one, three = (gmmcore.train(FRAMES, **{**QUICK, "threads": n}) for n in (1, 3))
    assert one.mixture == three.mixture


def test_any_map_computes_the_same() -> None:
    """The E-step goes through the map, of whatever workers it is."""
    calls = []

    def counted(function: Any, items: Any) -> Any:
        calls.append(len(items))
        return [pickle.loads(pickle.dumps(function))(item) for item in items]  # noqa: S301

    many = np.concatenate([FRAMES] * 3)
    given = gmmcore.train(many, map=counted, **QUICK)
    assert given.mixture == gmmcore.train(many, **QUICK).mixture
    assert set(calls) == {5}
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        assert gmmcore.train(many, map=pool.map, **QUICK).mixture == given.mixture


def test_held_out_frames_are_those_before_each_update() -> None:
    held = TRUTH.sample(500, seed=2)[0]
    mixtures: list[GaussianMixture] = []
    training = gmmcore.train(
        FRAMES, held_out=held, report=lambda _, mixture: mixtures.append(mixture), **QUICK
    )
    assert training.mixture == gmmcore.train(FRAMES, **QUICK).mixture
    history = training.history
    assert len(history["held_out"]) == len(mixtures)
    within = history["iteration"][1:] > 1  # Another mixture begins a stage.
    expected = np.array([log_likelihood(mixture, held).mean() for mixture in mixtures])
    np.testing.assert_allclose(history["held_out"][1:][within], expected[:-1][within], rtol=1e-5)
    assert training.held_out == pytest.approx(expected[-1], rel=1e-9)


def test_without_held_out_frames_the_column_is_nan() -> None:
    training = gmmcore.train(FRAMES, **QUICK)
    assert np.isnan(training.history["held_out"]).all()
    assert np.isnan(training.held_out)


def test_a_share_of_an_array_is_random_frames() -> None:
    inside, outside = divided(FRAMES, 0.1, None, seed=1)
    assert outside is not None
    assert (inside.frames, outside.frames) == (2700, 300)
    parts = [source.read(0, source.frames) for source in (inside, outside)]
    assert np.array_equal(np.sort(np.concatenate(parts), axis=0), np.sort(FRAMES, axis=0))
    # In pieces, they are the same frames.
    pieces = [inside.read(start, min(start + 700, 2700)) for start in range(0, 2700, 700)]
    assert np.array_equal(np.concatenate(pieces), parts[0])
    assert inside.read(5, 5).shape == (0, 2)
    other = divided(FRAMES, 0.1, None, seed=2)[1]
    assert other is not None
    assert not np.array_equal(other.read(0, 300), parts[1])


def test_a_share_of_several_shows_is_whole_shows(tmp_path: Path) -> None:
    numbered = np.repeat(np.arange(12.0), 50)[:, np.newaxis] + [[0.0, 0.5]]
    drawn = set()
    for seed in range(5):
        inside, outside = divided(shows_of(numbered, 12), 0.25, None, seed=seed)
        assert outside is not None
        held, kept = (set(source.read(0, source.frames)[:, 0]) for source in (outside, inside))
        assert (len(held), len(kept), held & kept) == (3, 9, set())
        drawn.add(frozenset(held))
    assert len(drawn) > 1
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", FRAMES[:10])
    inside, outside = divided(tmp_path, 0.01, None, seed=1)
    assert outside is not None
    assert (inside.frames, outside.frames) == (10, 10)
    with pytest.raises(GmmcoreError, match=r"held_out: 0.9 of 2 shows are all of them"):
        divided(tmp_path, 0.9, None, seed=1)


def test_full_covariances_follow_the_last_diagonal_stage() -> None:
    training = gmmcore.train(FRAMES, covariance="full", **QUICK)
    assert training.mixture.is_full
    assert [*dict.fromkeys(training.history["stage"])] == ["diag", "full"]
    one = gmmcore.train(FRAMES, covariance="full", full={"iterations": 1, "prior": 0}, **QUICK)
    assert (one.history["stage"] == "full").sum() == 1


def test_a_training_goes_on_from_a_mixture(tmp_path: Path) -> None:
    two = gmmcore.train(FRAMES, **{**QUICK, "components": 2})
    gmmcore.write_mixture(tmp_path / "two.h5", two.mixture)
    ubm = Mixture.from_gaussian_mixture(two.mixture)
    four = [
        gmmcore.train(FRAMES, **{**QUICK, "components": 4}, init=init).mixture
        for init in (two, two.mixture, ubm, tmp_path / "two.h5")
    ]
    assert four[0].components == 4
    assert all(mixture == four[0] for mixture in four[1:])


def test_numbers_of_numpy_are_numbers() -> None:
    given = {
        "components": np.int64(3),
        "iterations": np.array([4]),
        "llk_gain": np.float32(0.0),
        "seed": np.uint8(1),
    }
    assert gmmcore.train(FRAMES, threads=1, **given).mixture.components == 3


def test_as_many_components_as_frames_leave_a_valid_mixture_and_more_are_refused() -> None:
    with pytest.warns(UserWarning, match=r"^20 frames are 1\.0 for each of 20 diagonal"):
        mixture = gmmcore.train(FRAMES[:20], components=20, threads=1).mixture
    assert np.isfinite(log_likelihood(mixture, FRAMES)).all()
    with pytest.raises(GmmcoreError, match=r"^components: 21, but there are only 20 frames; give"):
        gmmcore.train(FRAMES[:20], components=21)


@pytest.mark.parametrize("components", [2, 4])
def test_a_start_far_from_the_frames_is_refused_in_one_line(components: int) -> None:
    start = GaussianMixture([0.5, 0.5], [[1e308, 0.0], [-1e308, 0.0]], np.ones((2, 2)))
    with pytest.raises(
        GmmcoreError, match=r"^the log-likelihood of [^\n]* choose another mixture$"
    ):
        gmmcore.train(FRAMES, components, init=start)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"components": 0}, "components is 0: a whole number, at least 1, at most 1048576"),
        ({"iterations": 20}, r"iterations is 20: a list.* was expected, such as \[20\]$"),
        ({"covariance": "round"}, "covariance: 'round'; expected one of spherical, diag, tied"),
        ({"covariance": "full", "full": {"iterations": 0}}, "full.iterations: 0"),
        ({"full": {"iterations": 3}}, "full.iterations: 3"),
        ({"full": {"prio": 3}}, "unknown key full.prio; did you mean prior"),
        ({"variance": {"floor": -1}}, "variance.floor is -1"),
        ({"iteration": [4]}, "unknown key iteration; did you mean iterations"),
        ({"n_components": 4}, "unknown key n_components; did you mean components"),
        ({"covariance_type": "full"}, "unknown key covariance_type; did you mean covariance"),
        ({"random_state": 4}, "unknown key random_state; did you mean seed=4"),
        ({"tol": 1e-3}, "did you mean last_gain=0.001"),
        ({"max_iter": 100}, r"did you mean iterations=\[100\]"),
        ({"reg_covar": 0.1}, 'did you mean variance={"floor": 0.1}'),
        ({"jobs": 2}, "unknown key jobs; known here: components, device"),
        ({"held_out": 1.5}, "held_out: 1.5; expected a share of the frames above 0 and below 1"),
        ({"held_out": float("nan")}, "held_out: nan; expected a share"),
        ({"held_out": 1e-6}, "held_out: 1e-06 of 3000 frames; expected some frames"),
        ({"held_out": np.zeros((5, 3))}, "held_out: frames of dimension 3; expected 2"),
        ({"held_out": np.full((5, 2), np.nan)}, "^held_out: frame 0 "),
        (
            {"held_out": np.zeros((0, 2))},
            r"^held_out: an array of shape \(0, 2\); expected one frame",
        ),
        ({"features": {"delta": True}}, "features: given with frames in an array"),
        ({"init": 3}, "init: a value of type int; expected a Mixture"),
        ({"init": "missing.h5"}, "missing.h5"),
    ],
)
def test_parameters_that_make_no_sense(given: dict[str, Any], message: str) -> None:
    with pytest.raises(GmmcoreError, match=message):
        gmmcore.train(FRAMES, **{**QUICK, **given})


def bad(place: tuple[int, int]) -> np.ndarray:
    values = FRAMES.copy()
    values[place] = np.nan
    return values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (bad((7, 1)), "frame 7 .counted from 0. holds a value that is not finite"),
        (FRAMES[0], r"frames have shape \(2,\), .* x\[:, None\] makes"),
        (csr_array(FRAMES), r"x\.toarray\(\)"),
        (np.array([["a"]]), "values of type <U1"),
        ([FRAMES, FRAMES[:, :1]], r"show 1: frames of shape \(3000, 1\)"),
        ([FRAMES, bad((0, 0))], "show 1: a frame holds a value that is not finite"),
        ([np.ma.masked_array(FRAMES, FRAMES > 9)], "show 0: a masked array"),
        ("missing", "missing: the feature list cannot be read"),
        (["missing.npy"], "missing.npy: no such file"),
    ],
)
def test_frames_that_are_none(values: Any, message: str) -> None:
    with pytest.raises(GmmcoreError, match=message):
        gmmcore.train(values, **QUICK)


def test_faulty_files_are_named_or_skipped(tmp_path: Path) -> None:
    for name, values in (("a", FRAMES[:20]), ("b", bad((3, 0))), ("c", FRAMES[20:40])):
        np.save(tmp_path / f"{name}.npy", values)
    paths = [tmp_path / f"{name}.npy" for name in "abc"]
    with pytest.raises(GmmcoreError, match=r"show b .*b.npy.: 1 NaN or infinite value"):
        opened(paths)
    with pytest.warns(UserWarning, match="show b"):
        assert opened(paths, {"on_error": "skip"}).frames == 40
    with pytest.warns(UserWarning, match="show d"):
        assert opened([*paths[:1], tmp_path / "d.npy"], {"on_error": "skip"}).frames == 20


def test_the_columns_of_the_history() -> None:
    training = gmmcore.train(FRAMES, **QUICK)
    assert [*training.history] == [each.name for each in fields(HistoryEntry)]
    assert training.history["stage"].tolist() == ["diag"] * len(training.entries)
    assert training.history["floored"].dtype.kind == "i"
    assert training.history is training.history


def test_the_plot_has_a_point_per_value() -> None:
    pytest.importorskip("altair")
    training = gmmcore.train(FRAMES, held_out=0.1, **QUICK)
    rows = training.plot_history().to_dict()["layer"][1]["data"]["values"]
    assert len(rows) == 2 * len(training.entries)
    assert {row["frames"] for row in rows} == {"training", "held-out"}


def test_without_altair_one_line_tells_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(GmmcoreError, match="pip install altair vl-convert-python"):
        gmmcore.train(FRAMES, **QUICK).plot_history()


@pytest.mark.parametrize("key", ["acceleration", "low_count.action", "on_decrease", "weak"])
def test_a_key_of_an_earlier_version_is_told_what_to_do(key: str) -> None:
    first, _, second = key.partition(".")
    with pytest.raises(GmmcoreError, match=rf"^train: {key} is gone: "):
        gmmcore.train(np.zeros((9, 2)), 2, **{first: {second: 1} if second else 1})


@pytest.mark.parametrize("covariance", ["spherical", "diag", "tied", "full"])
@pytest.mark.parametrize("components", [2, 4])
def test_a_start_of_another_dimension_is_one_line(covariance: str, components: int) -> None:
    start = gmmcore.GaussianMixture([0.5, 0.5], [[0.0] * 3, [1.0] * 3], np.ones((2, 3)))
    with pytest.raises(GmmcoreError, match=r"has dimension 3, the frames have dimension 2; "):
        gmmcore.train(
            np.random.default_rng(0).normal(size=(99, 2)), components, covariance, init=start
        )
