"""`gmmcore check`: finds what is broken, and names a command that mends it."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from pathlib import Path

import pytest
from conftest import PLAIN, Workflow

from gmmcore.checking import Checked, check_run
from gmmcore.cli import main
from gmmcore.errors import GmmcoreError
from gmmcore.files import replace_text
from gmmcore.formats.hdf5 import load_model, save_model

pytestmark = pytest.mark.slow


@pytest.fixture
def results(copied: Workflow, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results of a copy, seen from where Snakemake is run."""
    monkeypatch.chdir(copied.folder)
    return Path("results/tiny")


def found(results: Path) -> dict[str, str]:
    """What is wrong, by file."""
    return {
        str(Path(finding.path).relative_to(results)): finding.what
        for finding in check_run(str(results)).findings
    }


def test_a_run_that_is_whole(results, capsys):
    assert main(["check", str(results)]) == 0
    assert re.search(r"results/tiny: 1\d files and 3000 frames verified", capsys.readouterr().out)
    checked = check_run(str(results))
    assert checked == Checked(files=checked.files, frames=3000)


def test_an_unfinished_run_is_not_broken(results, capsys):
    for name in ("full/4/002.h5", "ubm.h5", "history.tsv"):
        (results / name).unlink()
    assert main(["check", str(results)]) == 0
    assert (
        "full/4: not complete, iteration 1 is done; to go on: snakemake" in capsys.readouterr().out
    )


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3000] ^= 1
    path.write_bytes(content)


def test_every_damaged_file_is_named(results, capsys):
    shard = sorted((results / "shards").glob("*.npy"))[1]
    for path in (results / "diag/2/001.h5", results / "ubm.h5", shard):
        flipped(path)
    (results / "history.tsv").write_text("")
    (results / "shows.tsv").write_text("# gmmcore shows: {}\n")
    assert found(results) == {
        "shows.tsv": "damaged, or not a list that `gmmcore shows` wrote",
        f"shards/{shard.name}": "damaged: frames 0 to 955 were altered",
        "diag/2/001.h5": "damaged: its content does not match its checksum",
        "diag/2/002.h5": f"its parent {parent_of(results / 'diag/2/002.h5')} is not among the "
        "mixtures here",
        "ubm.h5": "damaged: its content does not match its checksum",
    }
    assert main(["check", str(results)]) == 1
    captured = capsys.readouterr()
    assert "to mend it: rm 'results/tiny/ubm.h5' && snakemake" in captured.out
    assert captured.err.startswith("gmmcore check: error: results/tiny: 5 of ")


def parent_of(path: Path) -> str:
    return load_model(path).facts["parent"][:12]


def test_a_mixture_that_was_exchanged_for_a_valid_one(results):
    """Every file is intact, but the chain is not."""
    shutil.copy(results / "diag/4/001.h5", results / "diag/4/002.h5")
    assert found(results)["diag/4/002.h5"] == "not the mixture that its name says"
    model = load_model(results / "diag/4/003.h5")
    save_model(results / "diag/4/002.h5", model.mixture, {**model.facts, "iteration": 2})
    assert "diag/4/002.h5" in found(results)
    assert "diag/4/003.h5" in found(results)


def test_a_history_that_was_rewritten(results):
    path = results / "full/4/002.h5"
    model = load_model(path)
    last = dataclasses.replace(model.history[-1], log_likelihood=0.0)
    save_model(path, model.mixture, model.facts, (*model.history[:-1], last))
    faults = found(results)
    assert faults["full/4/002.h5"] == (
        "log-likelihood and gain of its history contradict each other"
    )
    assert faults["ubm.h5"] == "the mixture it was made from is not here"
    save_model(path, model.mixture, model.facts, model.history[1:])
    assert found(results)["full/4/002.h5"] == "its history does not continue that of its parent"


def test_what_the_user_takes_away(copied, results):
    copied.configure({**PLAIN, "export": ["kaldi", "htk"]})
    copied.run()
    assert found(results) == {}
    replace_text(results / "history.tsv", "stage\n")
    (results / "ubm.mmf").write_bytes((results / "ubm.mmf").read_bytes()[:-1])
    (results / "ubm.kaldi").unlink()
    assert found(results) == {
        "history.tsv": "not the history in results/tiny/ubm.h5",
        "ubm.kaldi": "cannot be read: No such file or directory",
        "ubm.mmf": "not what results/tiny/ubm.h5 is in this format",
    }


def test_features_that_changed_since(results):
    path = next(Path("corpus").glob("*_0000.h5"))
    os.utime(path, ns=(1, 1))
    (fault,) = found(results).values()
    assert fault == "the features it was made from changed since"
    shutil.rmtree("corpus")
    checked = check_run(str(results))
    assert not checked.findings
    assert checked.notes == ["corpus/shows.txt: not here, so the features were not compared"]


def test_what_it_advises_mends(copied, results, trained):
    flipped(sorted((results / "shards").glob("*.npy"))[1])
    flipped(results / "diag/4/002.h5")
    replace_text(results / "history.tsv", "stage\n")
    for finding in check_run(str(results)).findings:
        for path in re.findall(r"rm '(.+?)'", finding.mend):
            Path(path).unlink()
    log = copied.run()
    assert re.findall(r"iteration +\d", log) == ["iteration  2"]
    assert check_run(str(results)).findings == []
    assert copied.digests() == trained.digests()
    expected = trained.folder / "results/tiny/history.tsv"
    assert (results / "history.tsv").read_bytes() == expected.read_bytes()


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(GmmcoreError, match=r"holds no config\.json; the folder of a run"):
        check_run(str(tmp_path))
