"""Whole runs: what they make, and what a changed configuration makes again."""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import TINY, Workflow

from gmmcore import density
from gmmcore.files import sealed_facts
from gmmcore.formats.hdf5 import load_model
from gmmcore.statistics import accumulate
from gmmcore.training import TrainingSettings, train

pytestmark = pytest.mark.slow


def changed(**values: Any) -> dict[str, Any]:
    """The tiny configuration with some keys replaced; None removes one."""
    result = copy.deepcopy(TINY)
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] |= value
        else:
            result[key] = value
    return result


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a finished tiny run, and its log."""
    folder = tmp_path_factory.mktemp("finished")
    flow = Workflow(folder)
    flow.configure({**TINY, "report": True, "export": ["kaldi", "alize", "htk"]})
    return folder, flow.run()


@pytest.fixture
def again(finished: tuple[Path, str], tmp_path: Path) -> Workflow:
    """A copy of the finished run."""
    shutil.copytree(finished[0], tmp_path / "run")
    return Workflow(tmp_path / "run")


def made(log: str) -> list[str]:
    """Stage, components and iteration of every iteration in a log."""
    return [
        "/".join(match)
        for match in re.findall(r"^(diag|full) +(\d+)  iteration +(\d+) ", log, re.MULTILINE)
    ]


FIRST = ["diag/2/1", "diag/2/2", "diag/4/1", "diag/4/2", "diag/4/3", "full/4/1", "full/4/2"]


def test_a_run_makes_what_it_promises(finished):
    folder, log = finished
    results = folder / "results/tiny"
    assert made(log) == FIRST
    assert "finished: results/tiny/ubm.h5" in log
    assert "components found: 4 of 4" in (results / "recovery.txt").read_text()
    for name in ("ubm.kaldi", "ubm.gmm", "ubm.mmf", "report.html", "history.tsv", "shows.tsv"):
        assert (results / name).stat().st_size > 0
    assert not list(folder.glob("results/**/*.stats.h5"))
    assert not list(folder.glob("results/**/*.aside"))
    history = (results / "history.tsv").read_text().splitlines()
    assert len(history) == 1 + len(FIRST)


def test_the_final_mixture_is_one_that_sidekit_reads(finished):
    model = load_model(finished[0] / "results/tiny/ubm.h5")
    with h5py.File(finished[0] / "results/tiny/ubm.h5") as file:
        np.testing.assert_array_equal(file["mu"], model.mixture.means)
        np.testing.assert_array_equal(file["invcov"], model.mixture.precisions)
        np.testing.assert_allclose(file["w"][()].sum(), 1)
        upper = file["invchol"][()]
    np.testing.assert_allclose(upper.transpose(0, 2, 1) @ upper, model.mixture.precisions)
    assert (np.tril(upper, -1) == 0).all()


def test_the_workflow_is_the_training_in_one_process(finished):
    folder = finished[0]
    shards = sorted((folder / "results/tiny/shards").glob("*.npy"))
    frames = np.concatenate([np.load(path) for path in shards])
    assert len(frames) == TINY["demo"]["frames"]
    settings = TrainingSettings(precision="double")
    mixture, history = train(frames, 4, [2, 3], 2, settings)
    model = load_model(folder / "results/tiny/ubm.h5")
    assert len(history) == len(model.history)
    np.testing.assert_allclose(
        [entry.log_likelihood for entry in history],
        [entry.log_likelihood for entry in model.history],
        atol=1e-5,
    )
    np.testing.assert_allclose(
        density.log_likelihood(mixture, frames).mean(),
        density.log_likelihood(model.mixture, frames).mean(),
        atol=1e-5,
    )


def test_a_finished_run_has_nothing_to_do(again):
    before = again.digests()
    assert "Nothing to be done" in again.run()
    assert "Nothing to be done" in again.run("-n")
    assert again.digests() == before


def test_neither_times_nor_bookkeeping_decide(again):
    for path in sorted(again.folder.glob("results/**/*.h5"), reverse=True):
        path.touch()
    shutil.rmtree(again.folder / ".snakemake")
    again.configure({**TINY, "report": True, "export": ["kaldi", "alize", "htk"]})
    assert made(again.run()) == []


def test_more_iterations_go_on_from_what_exists(again):
    again.configure(changed(llk_gain=-1.0, iterations=[2, 5]))
    assert made(again.run("-n")) == []
    assert "maximise" in again.run("-n")
    log = again.run()
    assert made(log) == ["diag/4/4", "diag/4/5", "full/4/1", "full/4/2"]


def test_more_full_iterations_only_add_to_them(again):
    again.configure(changed(llk_gain=-1.0, full={"iterations": 4}))
    assert made(again.run()) == ["full/4/3", "full/4/4"]


def test_fewer_iterations_take_what_exists(again):
    again.configure(changed(full={"iterations": 1}))
    assert made(again.run()) == []
    final = sealed_facts(again.folder / "results/tiny/ubm.h5", "mixture")
    assert final["iteration"] == 1


def test_more_components_go_on_from_the_last_power_of_two(again):
    again.configure(changed(components=7, full={"iterations": 0}))
    log = again.run()
    assert made(log)[0] == "diag/7/1"
    assert {name.split("/")[1] for name in made(log)} == {"7"}
    assert load_model(again.folder / "results/tiny/ubm.h5").mixture.components == 7
    # And back again, to what is still there.
    again.configure(TINY)
    assert made(again.run()) == []
    assert load_model(again.folder / "results/tiny/ubm.h5").mixture.is_full


def test_another_floor_redoes_the_iterations_but_not_the_shards(again):
    shards = again.digests("results/tiny/shards/*")
    times = {path: path.stat().st_mtime_ns for path in again.folder.glob("results/tiny/shards/*")}
    again.configure(changed(variance={"floor": 0.02}))
    log = again.run()
    assert made(log) == FIRST
    assert again.digests("results/tiny/shards/*") == shards
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_another_bound_of_full_covariances_redoes_only_those(again):
    again.configure(changed(full={"floor": 0.002}))
    assert made(again.run()) == ["full/4/1", "full/4/2"]


def test_a_shorter_list_rewrites_its_shards_and_retrains(again):
    listing = again.folder / "mine.txt"
    names = (again.folder / "corpus/shows.txt").read_text().splitlines()
    listing.write_text("\n".join(names) + "\n")
    features = {"list": "mine.txt", "root": "corpus"}
    again.configure(changed(demo={"folder": None}, features=features))
    assert made(again.run()) == []  # the same shows from another list: the same frames
    listing.write_text("\n".join(names[:-1]) + "\n")
    assert "shows" in again.run("-n")
    assert made(again.run())[:2] == FIRST[:2]


def test_a_show_that_changes_rewrites_one_shard(again):
    again.configure(changed(demo={"folder": None}))
    again.run()
    before = set(again.digests("results/tiny/shards/*.npy"))
    path = next((again.folder / "corpus").glob("speaker000_0000.h5"))
    with h5py.File(path, "r+") as file:
        file["speaker000_0000/cep"][...] += np.float32(0.25)
    log = again.run()
    assert log.count("shard 0") == 1
    assert made(log)[:2] == FIRST[:2]
    assert len(set(again.digests("results/tiny/shards/*.npy")) - before) == 1


def test_start_from_an_existing_mixture(again):
    shutil.copy(again.folder / "results/tiny/diag/2/002.h5", again.folder / "start.h5")
    again.configure(changed(run="next", init={"from": "start.h5"}, export=["kaldi-text"]))
    log = again.run()
    assert made(log)[:2] == ["diag/2/1", "diag/2/2"]
    assert (again.folder / "results/next/ubm.kaldi.txt").read_text().startswith("<FullGMM>")
    kaldi = changed(run="third", init={"from": "results/tiny/ubm.kaldi"}, demo={"folder": None})
    again.configure(kaldi)
    log = again.run()
    assert {name.rsplit("/", 1)[0] for name in made(log)} == {"full/4"}


@pytest.mark.parametrize("pack", [True, False])
def test_packed_or_not_the_mixture_is_the_same(finished, again, pack):
    again.configure(changed(run="other", features={"pack": pack}))
    again.run()
    a = load_model(finished[0] / "results/tiny/ubm.h5").mixture
    b = load_model(again.folder / "results/other/ubm.h5").mixture
    assert a == b


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"componets": 3}, "unknown key componets; did you mean components"),
        ({"components": 5000}, "train fewer components or bring more shows"),
        ({"init": {"from": "absent.h5"}}, "absent.h5"),
        ({"features": {"list": "absent.txt"}, "demo": {"folder": None}}, "absent.txt"),
        ({"features": {"normalisation": "cmvnn"}}, "normalisation"),
    ],
)
def test_mistakes_stop_before_any_training(again, values, message):
    shutil.rmtree(again.folder / "results")
    again.configure(changed(**values))
    log = again.run(code=1)
    assert message in log
    assert "Traceback" not in log
    assert made(log) == []


def test_audio_is_turned_into_features_first(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("kaldi_native_fbank")
    rng = np.random.default_rng(0)
    (tmp_path / "audio").mkdir()
    for index in range(4):
        tone = np.sin(np.arange(32_000) * (0.05 + 0.03 * index))
        envelope = np.repeat(rng.random(20), 1600)
        sound = envelope * tone * 0.3 + 1e-3 * rng.standard_normal(32_000)
        soundfile.write(tmp_path / f"audio/show{index}.wav", sound, 16_000)
    flow = Workflow(tmp_path)
    features = {"list": "features/shows.txt", "pattern": "{show}.h5", "delta": True}
    flow.configure(
        {
            "components": 2,
            "iterations": [2],
            "audio": {"list": "audio", "pattern": "{show}.wav"},
            "features": features,
            "report": False,
        }
    )
    assert made(flow.run()) == ["diag/2/1", "diag/2/2"]
    model = load_model(tmp_path / "results/ubm/ubm.h5")
    assert model.mixture.dimension == 40
    assert "Nothing to be done" in flow.run()


def test_every_faulty_show_is_named_at_once(again):
    corpus = again.folder / "corpus"
    names = (corpus / "shows.txt").read_text().split()
    (corpus / f"{names[0]}.h5").unlink()
    (corpus / f"{names[1]}.h5").write_bytes(b"not a feature file")
    with h5py.File(corpus / f"{names[2]}.h5", "r+") as file:
        file[f"{names[2]}/cep"][5, 1] = np.nan
    with h5py.File(corpus / f"{names[3]}.h5", "r+") as file:
        file[f"{names[3]}/vad"][...] = 0
    features = {**TINY["features"], "shards": 2}
    again.configure(changed(demo={"folder": None}, features=features))
    log = again.run(code=1)
    for name in names[:4]:
        assert f"show {name}" in log
    assert "4 faults" in log
    assert made(log) == []
    again.configure(changed(demo={"folder": None}, features={**features, "on_error": "skip"}))
    assert made(again.run())[:2] == FIRST[:2]


def test_real_speech(shared, tmp_path):
    flow = Workflow(tmp_path)
    listing = shared / "features/sidekit_none"
    flow.configure(
        {
            "run": "speech",
            "components": 32,
            "iterations": [1, 2, 2, 4, 4],
            "llk_gain": -1.0e9,
            "full": {"iterations": 4},
            "precision": "double",
            "features": {"list": str(listing), "pattern": "{show}.h5", "shards": 4},
        }
    )
    log = flow.run()
    assert len(made(log)) == 1 + 2 + 2 + 4 + 4 + 4
    model = load_model(tmp_path / "results/speech/ubm.h5")
    assert (np.linalg.eigvalsh(model.mixture.covariances) > 0).all()
    for before, after in zip(model.history[:-1], model.history[1:], strict=True):
        if after.iteration > 1 and not before.floored and not before.ceiled and not before.weak:
            assert after.gain > -1e-9
    shards = sorted((tmp_path / "results/speech/shards").glob("*.npy"))
    frames = np.concatenate([np.load(path) for path in shards])
    assert len(frames) == 16385
    exact = accumulate(model.mixture, frames).log_likelihood_per_frame
    assert exact > model.history[-1].log_likelihood
