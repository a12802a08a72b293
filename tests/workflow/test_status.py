"""`gmmcore status` tells what a run will be, where it is, and what it was."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
from flows import PLAIN, Workflow, changed

from gmmcore.cli.main import main
from gmmcore.files import holding
from gmmcore.formats.hdf5 import load_model

pytestmark = pytest.mark.slow


def told(flow: Workflow, *arguments: str) -> str:
    code, text = flow.verb(*(arguments or ("status",)))
    assert code == 0, text
    return text


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_run_from_its_beginning_to_its_end(fresh):
    assert "results/tiny: not begun: the feature list is not checked yet\n" in told(fresh)
    fresh.run("-n")
    (source,) = fresh.folder.glob("results/features/*/source.json")
    table = str(source.with_name("shows.tsv"))
    assert fresh.verb("shows", "--settings", str(source), "--output", table)[0] == 0
    assert "not begun: 0 of 3 shards of frames are packed" in told(fresh)
    fresh.run("results/tiny/diag/2.h5")
    text = told(fresh, "status", "results")
    assert "results/tiny: diag/4 (stage 3 of 4), iteration 0 of at most 3 is done" in text
    assert re.search(r"^  diag/2 +2/2  2 x \d+ +- +(less than )?1 s  -\d", text, re.MULTILINE)
    assert "at work: not known; its first mixture is not made yet" in text
    assert re.search(r"to come: 5 iterations at most, about \d s and \d+ MB", text)
    fresh.run("results/tiny/full/4.h5")
    assert "all stages are done; still to be written: ubm.h5, SHA256SUMS, " in told(fresh)
    fresh.run()
    before = times(fresh.folder)
    text = told(fresh, "status", "results/tiny", "--cores", "4")
    assert text.startswith("results/tiny: finished: results/tiny/ubm.h5\n  frames: ")
    assert re.search(r"^  full/4 +2/2 ", text, re.MULTILINE)
    assert "to come" not in text
    assert times(fresh.folder) == before


def test_a_run_that_was_stopped(nearly):
    folder = nearly.folder / "results/tiny/full/4"
    text = told(nearly)
    assert "results/tiny: full/4 (stage 4 of 4), iteration 1 of at most 2 is done" in text
    assert "at work: no job; the last mixture was written" in text
    assert "to come: 1 iteration at most, about " in text
    with holding(folder):
        assert f"at work: process {os.getpid()}; " in told(nearly)
    (nearly.folder / "logs/tiny/full/4.log").write_text("tiny\ngmmcore iterate: stopped; nothing\n")
    assert "the last job: gmmcore iterate: stopped; nothing\n" in told(nearly)
    nearly.configure({**nearly.config, "jobs": 2})
    assert "at work: not known with jobs: 2; the last mixture was written" in told(nearly)
    nearly.configure({**nearly.config, "jobs": "auto"})
    (folder / "002.h5").write_bytes(b"half")
    assert "made again: results/tiny/full/4/002.h5: damaged" in told(nearly)
    (folder.parent.parent / "ubm.h5").unlink(missing_ok=True)
    nearly.configure({**nearly.config, "variance": {"floor": 0.1}})
    text = told(nearly)
    assert "results/tiny: diag/2 (stage 2 of 4), iteration 0 of at most 2 is done" in text
    assert "made again: results/tiny/diag/2/000.h5: made with other settings" in text


def test_starved_components_and_skipped_shows(fresh):
    few = {"components": 256, "frames_per_component": 1, "features": {"shards": 1}}
    values = changed(PLAIN, **few, full={"iterations": 0})
    fresh.configure(values)
    sorted((fresh.folder / "corpus").glob("s*.h5"))[0].write_bytes(b"not HDF5")
    fresh.run(code=1)
    assert "the last job: gmmcore pack: error: corpus/shows.txt: 1 fault; fix " in told(fresh)
    fresh.configure(changed(values, features={"on_error": "skip"}))
    fresh.run()
    text = told(fresh)
    assert re.search(r"low count: \d+ components, the smallest of \d\.\d frames", text)
    skipped = re.search(r"skipped: 1 show, see (results/features/\w+/skipped.tsv)", text)
    assert skipped is not None, text
    assert (fresh.folder / skipped[1]).exists()


def test_it_is_never_wrong_while_files_change(fresh):
    fresh.configure(changed(PLAIN, iterations=[4], llk_gain=-1000.0))
    process = fresh.start()
    places = []
    plan = ["diag/1", "diag/2", "diag/4", "full/4"]
    while process.poll() is None:
        text = told(fresh)
        assert "made again" not in text
        if found := re.search(r"tiny: (\w+/\d+) .* iteration (\d+) of", text):
            places.append((plan.index(found[1]), int(found[2])))
        elif "finished" in text:
            places.append((len(plan), 0))
        time.sleep(0.02)
    process.communicate()
    assert process.returncode == 0
    assert len({*places}) > 2
    assert places == sorted(places)


def test_the_plan_is_what_a_run_does(fresh, monkeypatch, capsys):
    monkeypatch.chdir(fresh.folder)
    values = changed(PLAIN, llk_gain=-1000.0, frames_per_component=5, held_out=0.2)
    fresh.configure(values)
    text = told(fresh)
    whole = 3000 / 0.7  # With the silence of the demonstration.
    listed = re.search(r"frames: (\d+) of dimension 4, about, in corpus/shows.txt; fewer", text)
    assert listed is not None, text
    assert int(listed[1]) == pytest.approx(0.8 * whole, rel=0.05)
    assert "to come: 7 iterations at most, about " in text
    (fresh.folder / "corpus/shows.txt").rename("away.txt")
    text = told(fresh)
    assert "frames: not known: " in text
    assert "or give --frames N --dimension D" in text
    assert re.search(r"^  full/4 +0/2  \? ", text, re.MULTILINE)
    (fresh.folder / "away.txt").rename("corpus/shows.txt")
    text = told(fresh, "status", "--frames", "100000", "--dimension", "60")
    assert "frames: 80000 of dimension 60, as given" in text
    assert re.search(r"^  diag/4 +0/3  3 x 1250 ", text, re.MULTILINE)
    planned = levels(text, 80_000)
    fresh.run()
    # What is given counts in a finished folder, too.
    given = told(fresh, "status", "--frames", "100000", "--dimension", "60")
    assert levels(given, 80_000) == planned
    for words in (["9000000", "60"], ["9000000", "30"], ["4000000", "30"]):
        before, given = given, told(fresh, "status", "--frames", words[0], "--dimension", words[1])
        assert f"of dimension {words[1]}, as given" in given
        assert given.splitlines()[-1] != before.splitlines()[-1]
    text = told(fresh)
    found = re.search(r"frames: (\d+) of dimension 4 in 3 shards, and \d+ held out", text)
    assert found is not None, text
    assert levels(text, int(found[1])) == [
        entry.level for entry in load_model("results/tiny/ubm.h5").history
    ]
    assert len(planned) == 7
    for arguments, message in [
        (["--frames", "5"], "--frames and --dimension: both were expected, or none of them"),
        (["--frames", "0", "--dimension", "4"], "--frames 0: expected 1 or more"),
        (["results/other"], "results/other: no such folder; expected the results"),
    ]:
        assert main(["status", *arguments]) == 1
        assert message in capsys.readouterr().err


def levels(text: str, frames: int) -> list[int]:
    """The levels of the subsets that the table's iterations read, by their frames."""
    found = re.findall(r"(\d+) x (\d+)", text)
    return [round(np.log2(frames / int(of))) for count, of in found for _ in range(int(count))]
