"""`gmmcore check` finds what is wrong, and what it advises fixes it."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import pytest
from flows import PLAIN, Workflow, errors, iterations

from gmmcore.cli.main import main
from gmmcore.files import holding
from gmmcore.formats.hdf5 import load_model, save_model
from gmmcore.workflow.check import Checked, check_run
from gmmcore.workflow.runs import read_runs

pytestmark = pytest.mark.slow


@pytest.fixture
def results(copied: Workflow, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results of a copy, seen from where Snakemake is run."""
    monkeypatch.chdir(copied.folder)
    return Path("results/tiny")


def checked(flow: Workflow) -> Checked:
    return check_run(read_runs(flow.config)["tiny"], "results")


def found(flow: Workflow) -> dict[str, str]:
    """What is wrong, by file."""
    return {
        re.sub(r"^results/(tiny|features/\w+)/", "", path): what
        for path, what in checked(flow).findings.items()
    }


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3000] ^= 1
    path.write_bytes(content)


def test_a_whole_run_is_verified_to_the_last_frame(copied, results, capsys):
    assert main(["check"]) == 0
    assert re.search(r"results/tiny: \d\d files and 3000 frames verified", capsys.readouterr().out)
    assert main(["check", str(results)]) == 0
    whole = checked(copied)
    assert whole == Checked(files=whole.files, frames=3000)


def test_an_unfinished_run_is_not_finished(nearly, results, capsys):
    assert main(["check"]) == 1
    assert "results/tiny/ubm.h5: missing" in capsys.readouterr().out


def test_every_damaged_file_is_named_and_repaired(trained, copied, results):
    (shard, *_) = copied.folder.glob("results/features/*/001-*.npy")
    flipped(shard)
    flipped(results / "diag/2/001.h5")
    flipped(results / "ubm.h5")
    (results / "history.tsv").write_text("")
    code, output = copied.verb("check")
    assert code == 1
    faults = dict(line.split(": ", 1) for line in output.splitlines() if ": " in line)
    assert re.match(r"damaged: frames 0 to \d+ ", faults[str(shard.relative_to(copied.folder))])
    for name in ("diag/2/001.h5", "ubm.h5"):
        assert faults[f"results/tiny/{name}"].startswith("damaged")
    assert faults["results/tiny/history.tsv"] == "not what SHA256SUMS says"
    # The order of standard output and standard error depends on PYTHONUNBUFFERED.
    (line,) = errors(output)
    assert line.endswith("4 files are not what they should be; gmmcore check --repair")
    assert errors(copied.verb("check", "--repair")[1])[0].endswith("; snakemake makes it again")
    assert iterations(copied.run()) == ["diag/2/1", "diag/2/2"]
    assert copied.verb("check")[0] == 0
    assert copied.made() == trained.made()


def test_nothing_is_repaired_while_a_job_is_at_work(copied, results, capsys):
    flipped(results / "ubm.h5")
    with holding(results / "full/4"):
        assert main(["check", "--repair"]) == 1
    assert "full/4: process " in capsys.readouterr().err
    assert (results / "ubm.h5").exists()


def test_files_of_the_future_are_dated_and_are_no_fault(copied, results):
    later = time.time() + 1e6
    os.utime(results / "ubm.h5", (later, later))
    assert copied.verb("check", "--repair")[0] == 0
    assert (results / "ubm.h5").stat().st_mtime <= time.time()


def test_a_mixture_that_was_exchanged_for_a_valid_one_is_found(copied, results):
    """Every file is intact, but the chain is not."""
    shutil.copy(results / "diag/4/001.h5", results / "diag/4/002.h5")
    assert found(copied)["diag/4/002.h5"] == "not the mixture of this name"
    model = load_model(results / "diag/4/003.h5")
    save_model(results / "diag/4/002.h5", model.mixture, {**model.facts, "iteration": 2})
    assert "diag/4/002.h5" in found(copied)


def test_what_the_user_takes_away_is_compared(copied, results):
    copied.configure({**PLAIN, "export": ["kaldi", "htk"]})
    copied.run()
    assert found(copied) == {}
    (results / "history.tsv").write_text("stage\n")
    (results / "ubm.mmf").write_bytes((results / "ubm.mmf").read_bytes()[:-1])
    (results / "ubm.kaldi").unlink()
    assert found(copied) == {
        "history.tsv": "not what SHA256SUMS says",
        "ubm.kaldi": "missing",
        "ubm.mmf": "not what SHA256SUMS says",
    }


def test_features_that_changed_since_are_found(copied, results):
    path = next(Path("corpus").glob("*_0000.h5"))
    path.write_bytes(path.read_bytes() + b" ")
    assert found(copied) == {"shows.tsv": "the features, or what is to be done with them, changed"}
    shutil.rmtree("corpus")
    whole = checked(copied)
    assert not whole.findings
    assert whole.notes == ["corpus/shows.txt: not here, so the features were not compared"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["results/other"], "results/other: config.yaml has no run other; its runs are tiny"),
        (["elsewhere/tiny"], "elsewhere/tiny: no such folder; expected the results of a run"),
        (["--configfile", "absent.yaml"], "absent.yaml: cannot be read"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(copied, results, capsys, arguments, message):
    assert main(["check", *arguments]) == 1
    assert capsys.readouterr().err.startswith(f"gmmcore check: error: {message}")
