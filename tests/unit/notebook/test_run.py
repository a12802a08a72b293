"""`gmmcore.open_run`: finished runs and unfinished ones; and the page of the notebook."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import gmmcore
from gmmcore import GaussianMixture, GmmcoreError
from gmmcore.core.history import HistoryEntry, history_table
from gmmcore.data.demo import known_mixture
from gmmcore.formats.hdf5 import save_model
from gmmcore.interfaces.run import Training

PAGE = Path(__file__).parents[3] / "docs/notebook.md"
FRAMES = np.random.default_rng(0).standard_normal((400, 3)) * [1.0, 2.0, 3.0]


def written(
    folder: Path, frames: Any = FRAMES, components: int = 4, until: int | None = None
) -> Training:
    """Write the first iterations of a training, and the files around them, as the workflow does."""
    made: list[tuple[HistoryEntry, GaussianMixture]] = []
    training = gmmcore.train(
        frames,
        components=components,
        covariance="full",
        iterations=[2],
        full={"iterations": 4},
        llk_gain=-1,
        threads=1,
        report=lambda *iteration: made.append(iteration),
    )
    entries = training.entries[:until]
    (folder / "diag").mkdir(parents=True)
    save_model(folder / "diag/1.h5", gmmcore.train(frames, components=1).mixture, {})
    for number, (entry, mixture) in enumerate(made[:until], 1):
        place = folder / entry.stage / str(entry.components) / f"{entry.iteration:03d}.h5"
        save_model(place, mixture, {}, entries[:number])
        if number < len(made) and made[number][0].iteration == 1:
            save_model(place.parent.with_suffix(".h5"), mixture, {}, entries[:number])
    if until is None:
        save_model(folder / f"full/{components}.h5", training.mixture, {}, entries)
        save_model(folder / "ubm.h5", training.mixture, {"held_out": -6.5}, entries)
    return training


def test_a_finished_run(tmp_path: Path) -> None:
    training = written(tmp_path)
    run = gmmcore.open_run(tmp_path)
    assert run.finished
    assert run.mixture == training.mixture
    assert run.held_out == -6.5
    assert [*run.mixtures] == ["diag/1", "diag/2", "diag/4", "full/4"]
    assert len(run.mixtures) == 4
    assert run.mixtures["full/4"] == training.mixture
    assert run.mixtures["diag/2"].components == 2
    with pytest.raises(KeyError, match="diag/8"):
        _ = run.mixtures["diag/8"]
    np.testing.assert_equal(run.history, training.history)
    assert "full/4" in repr(run.mixtures)
    assert repr(run).startswith("<OpenedRun: 8 iterations, <GaussianMixture: 4 full")


def test_an_unfinished_run_is_that_of_its_latest_iteration(tmp_path: Path) -> None:
    training = written(tmp_path, until=3)
    (tmp_path / "diag/4/notes.h5").write_text("not one of the iterations")
    run = gmmcore.open_run(str(tmp_path))
    assert not run.finished
    assert [*run.mixtures] == ["diag/1", "diag/2"]
    assert run.mixture.components == 4
    assert history_table(run.entries) == history_table(training.entries[:3])
    assert run.history["components"].tolist() == [2, 2, 4]


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(
            GmmcoreError, match=rf"{folder}: no mixture of a run; expected a folder"
        ):
            gmmcore.open_run(folder)


def test_a_damaged_file_is_told_when_it_is_read(tmp_path: Path) -> None:
    written(tmp_path)
    path = tmp_path / "diag/2.h5"
    path.write_bytes(path.read_bytes()[:-1])
    run = gmmcore.open_run(tmp_path)
    with pytest.raises(GmmcoreError, match=r"diag/2.h5: damaged"):
        _ = run.mixtures["diag/2"]


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("altair")
    monkeypatch.chdir(tmp_path)
    mixture = known_mixture(np.random.default_rng(1), components=64, dimension=20)
    written(tmp_path / "results/demo", mixture.sample(4000, seed=1)[0], 64)
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted > 30
    assert result.failed == 0


@pytest.mark.parametrize("kind", ["diag", "full"])
def test_a_notebook_shows_trainings_and_mixtures(kind: str) -> None:
    frames = known_mixture(np.random.default_rng(1), components=9, dimension=7).sample(900, 1)[0]
    training = gmmcore.train(frames, 9, kind, held_out=0.1)
    shown = training._repr_html_()
    document = ElementTree.fromstring(f"<div>{shown}</div>")
    stages, components = document.findall("table")
    assert [row[0].text for row in stages][1:] == [
        *dict.fromkeys(f"{entry.stage}/{entry.components}" for entry in training.entries)
    ]
    assert len(components) == 9  # The head, and the 8 heaviest ones.
    weights = [float(row[1].text or "") for row in components[1:]]
    assert weights == sorted(weights, reverse=True)
    assert "and 1 more component" in shown
    assert repr(training) in "".join(document.itertext())
    assert training.mixture._repr_html_() in shown
    empty = gmmcore.train(frames, 1)
    assert len(ElementTree.fromstring(f"<div>{empty._repr_html_()}</div>")[1]) == 1
