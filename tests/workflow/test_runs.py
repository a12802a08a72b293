"""Whole runs: what they make, and what a changed configuration makes again."""

from __future__ import annotations

import re
import shutil
from typing import Any

import h5py
import numpy as np
import pytest
from flows import FIRST, PLAIN, TINY, Workflow, changed, errors, iterations, jobs

from gmmcore.core import density
from gmmcore.core.estep import accumulate
from gmmcore.core.train import TrainingSettings, train
from gmmcore.formats.hdf5 import load_model, unseal

pytestmark = pytest.mark.slow

SHARDS = "results/features/*/*.npy"


def plain(**values: Any) -> dict[str, Any]:
    """The tiny configuration, its corpus given, with some keys replaced."""
    return changed(PLAIN, **values)


def frames_of(flow: Workflow) -> np.ndarray:
    return np.concatenate([np.load(path) for path in sorted(flow.folder.glob(SHARDS))])


def test_a_run_makes_what_it_promises(tmp_path):
    flow = Workflow(tmp_path, forked=False)
    flow.configure({**TINY, "report": True, "export": ["kaldi", "alize", "htk"]})
    log = flow.run()
    results = tmp_path / "results/tiny"
    assert iterations(log) == FIRST
    assert "finished: results/tiny/ubm.h5" in log
    assert "4 of 4 true components recovered" in (results / "recovery.txt").read_text()
    for name in ("ubm.kaldi", "ubm.gmm", "ubm.mmf", "report.html", "SHA256SUMS"):
        assert (results / name).stat().st_size > 0
    assert len((results / "history.tsv").read_text().splitlines()) == 1 + len(FIRST)
    assert "Nothing to be done" in flow.run()


def test_the_final_mixture_is_one_that_sidekit_reads(trained):
    path = trained.folder / "results/tiny/ubm.h5"
    model = load_model(path)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["mu"], model.mixture.means)
        np.testing.assert_array_equal(file["invcov"], model.mixture.precisions)
        np.testing.assert_allclose(file["w"][()].sum(), 1)
        upper = file["invchol"][()]
    np.testing.assert_allclose(upper.transpose(0, 2, 1) @ upper, model.mixture.precisions)
    assert (np.tril(upper, -1) == 0).all()


def test_the_workflow_is_the_training_in_one_process(trained):
    frames = frames_of(trained)
    assert len(frames) == TINY["demo"]["frames"]
    mixture, history = train(
        frames, 4, [2, 3], 2, TrainingSettings(precision="double", llk_gain=-1.0)
    )
    model = load_model(trained.folder / "results/tiny/ubm.h5")
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


@pytest.mark.parametrize(
    ("values", "made"),
    [
        ({"llk_gain": -1.0, "iterations": [2, 5]}, ["diag/4/4", "diag/4/5", *FIRST[5:]]),
        ({"llk_gain": -1.0, "full": {"iterations": 4}}, ["full/4/3", "full/4/4"]),
        ({"full": {"floor": 0.002}}, FIRST[5:]),
        ({"variance": {"floor": 0.02}}, FIRST),
    ],
)
def test_a_changed_key_makes_again_what_it_decides_and_no_more(copied, values, made):
    shards = {path: path.stat().st_mtime_ns for path in copied.folder.glob(SHARDS)}
    copied.configure(plain(**values))
    assert "iterate" in jobs(copied.run("-n"))
    assert iterations(copied.run()) == made
    assert {path: path.stat().st_mtime_ns for path in copied.folder.glob(SHARDS)} == shards


def test_more_components_go_on_from_the_last_power_of_two(copied):
    copied.configure(plain(components=7, full={"iterations": 0}))
    made = iterations(copied.run())
    assert {name.split("/")[1] for name in made} == {"7"}
    assert load_model(copied.folder / "results/tiny/ubm.h5").mixture.components == 7


def test_a_shorter_list_makes_its_shards_again_and_retrains(copied):
    listing = copied.folder / "mine.txt"
    names = (copied.folder / "corpus/shows.txt").read_text().splitlines()
    listing.write_text("\n".join(names) + "\n")
    copied.configure(plain(features={"list": "mine.txt", "root": "corpus"}))
    # The same shows from another list are the same frames.
    assert iterations(copied.run()) == []
    listing.write_text("\n".join(names[:-1]) + "\n")
    assert "pack" in copied.run("-n")
    assert iterations(copied.run())[:2] == FIRST[:2]


def test_a_show_that_changes_makes_one_shard_again(copied):
    before = set(copied.digests(SHARDS))
    with h5py.File(copied.folder / "corpus/speaker000_0000.h5", "r+") as file:
        file["speaker000_0000/cep"][...] += np.float32(0.25)
    log = copied.run()
    assert len(re.findall(r"^shard \d+: \d+ shows", log, re.MULTILINE)) == 1
    assert iterations(log)[:2] == FIRST[:2]
    assert len(set(copied.digests(SHARDS)) - before) == 1


def test_a_training_starts_from_an_existing_mixture(copied):
    shutil.copy(copied.folder / "results/tiny/diag/2/002.h5", copied.folder / "start.h5")
    start = plain(run="next", init={"from": "start.h5"}, export=["kaldi-text"])
    copied.configure(start)
    assert iterations(copied.run())[:2] == FIRST[:2]
    assert (copied.folder / "results/next/ubm.kaldi.txt").read_text().startswith("<FullGMM>")
    copied.configure(plain(run="third", init={"from": "results/next/ubm.kaldi.txt"}))
    assert {name.rsplit("/", 1)[0] for name in iterations(copied.run())} == {"full/4"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"componets": 3}, "unknown key componets; did you mean components?"),
        ({"components": 5000}, "give a smaller `components`, or bring more frames"),
        ({"init": {"from": "absent.h5"}}, "absent.h5"),
        ({"features": {"list": "absent.txt"}}, "absent.txt"),
        ({"features": {"normalisation": "cmvnn"}}, "normalisation"),
        ({"features": {"pack": False}}, "features.pack is gone: a shard always holds its frames"),
        ({"features": {"window": 4}}, "features.window is 4: an odd number"),
        ({"runs": {"a": {"components": -1}}, "run": None}, "runs.a: components is -1"),
    ],
)
def test_a_mistake_is_one_line_before_any_training(fresh, values, message):
    config = {key: value for key, value in plain(**values).items() if (key, value) != ("run", None)}
    fresh.configure(config)
    log = fresh.run(code=1)
    (line,) = errors(log)
    assert message in line
    assert iterations(log) == []


def test_every_faulty_show_is_named_at_once(copied):
    corpus = copied.folder / "corpus"
    _, *names = (corpus / "shows.txt").read_text().splitlines()
    (corpus / f"{names[0]}.h5").unlink()
    (corpus / f"{names[1]}.h5").write_bytes(b"not a feature file")
    with h5py.File(corpus / f"{names[2]}.h5", "r+") as file:
        file[f"{names[2]}/cep"][5, 1] = np.nan
    with h5py.File(corpus / f"{names[3]}.h5", "r+") as file:
        file[f"{names[3]}/vad"][...] = 0
    copied.configure(plain(features={"shards": 2}))
    log = copied.run(code=1)
    for name in names[:4]:
        assert f"show {name}" in log
    assert iterations(log) == []
    copied.configure(plain(features={"shards": 2, "on_error": "skip"}))
    assert iterations(copied.run())[:2] == FIRST[:2]
    tables = copied.folder.glob("results/features/*/skipped.tsv")
    assert any(all(name in path.read_text() for name in names[:4]) for path in tables)


def test_real_speech(data, tmp_path):
    flow = Workflow(tmp_path)
    flow.configure(
        {
            "run": "speech",
            "components": 32,
            "iterations": [1, 2, 2, 4, 4],
            "llk_gain": -1.0e9,
            "full": {"iterations": 4},
            "precision": "double",
            "features": {
                "list": str(data / "features/sidekit_none"),
                "pattern": "{show}.h5",
                "shards": 4,
            },
        }
    )
    assert len(iterations(flow.run())) == 1 + 2 + 2 + 4 + 4 + 4
    model = load_model(tmp_path / "results/speech/ubm.h5")
    assert (np.linalg.eigvalsh(model.mixture.covariances) > 0).all()
    for before, after in zip(model.history[:-1], model.history[1:], strict=True):
        if (
            after.iteration > 1
            and not before.floored
            and not before.ceiled
            and not before.low_count
        ):
            assert after.gain > -1e-9
    frames = frames_of(flow)
    assert len(frames) == 2578
    exact = accumulate(model.mixture, frames).log_likelihood_per_frame
    assert exact > model.history[-1].log_likelihood


def test_the_last_iteration_is_the_final_mixture(trained):
    final = unseal(trained.folder / "results/tiny/ubm.h5", "mixture")[0]
    last = unseal(trained.folder / "results/tiny/full/4/002.h5", "mixture")[0]
    assert final["iteration"] == 2
    assert final["parent"] == last["digest"]
