"""What is up to date, what is stale, and who holds the folder."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gmmcore.corpus import Corpus, CorpusShard
from gmmcore.em import ARITHMETIC, split, to_full
from gmmcore.errors import GmmcoreError
from gmmcore.files import digest_of
from gmmcore.formats.hdf5 import save_model
from gmmcore.formats.statistics_file import save_statistics
from gmmcore.model import GaussianMixture
from gmmcore.run import Position, Run, hold_folder
from gmmcore.schedule import stages

SETTINGS = {
    "initialise": {"digest": None},
    "accumulate": {"precision": "single"},
    "diag": {"floor": 0.01},
    "full": {"floor": 0.001},
}
CORPUS = Corpus((CorpusShard("000", "000.npy", 10, "a" * 64),), 1, (0.0,), (1.0,))
ONE = GaussianMixture([1.0], [[0.0]], [[1.0]])
PLAN = stages(2, [3], 2)


@pytest.fixture
def run(tmp_path):
    """A run with two iterations of two components, and nothing after that."""
    result = Run(str(tmp_path / "results"), PLAN, 0.01, SETTINGS, True, [].append)
    one, two, _ = PLAN
    parent = save(result, one, 0, ONE, None)
    parent = save(result, two, 0, split(ONE), parent)
    parent = save(result, two, 1, split(ONE), parent)
    save(result, two, 2, split(ONE), parent, gain=1.0)
    return result


def save(run, stage, iteration, mixture, parent, gain=None, corpus=CORPUS):
    verb = "maximise" if iteration else stage.origin
    settings = {"initialise": SETTINGS["initialise"], "maximise": SETTINGS[stage.kind]}.get(verb)
    parts = (verb, ARITHMETIC) if settings is None else (verb, settings, ARITHMETIC)
    facts = {
        "stage": stage.kind,
        "components": stage.components,
        "iteration": iteration,
        "gain": gain,
        "parent": parent,
        "corpus": corpus.digest,
        "settings": digest_of(*parts),
    }
    return save_model(run.mixture(stage, iteration), mixture, facts)


def positions(run, corpus=CORPUS):
    return list(run.survey(corpus).values())


NOTHING = Position(-1, False)


def test_a_run_goes_on_where_it_is(run):
    assert positions(run) == [Position(0, True), Position(2, False), NOTHING]
    assert positions(run, None) == [NOTHING] * 3
    parent = run._peek(run.mixture(PLAN[1], 2))["digest"]
    parent = save(run, PLAN[1], 3, split(ONE), parent, gain=1.0)
    assert positions(run) == [Position(0, True), Position(3, True), NOTHING]
    save(run, PLAN[2], 0, to_full(split(ONE)), parent)
    assert positions(run)[2] == Position(0, False)


def test_a_small_gain_ends_a_stage(run):
    run.llk_gain = 1.0
    assert positions(run)[1] == Position(2, False)
    run.llk_gain = 1.5
    assert positions(run)[1] == Position(2, True)


@pytest.mark.parametrize(
    ("key", "value", "position"),
    [("initialise", {"digest": "x"}, NOTHING), ("diag", {"floor": 0.02}, Position(0, False))],
)
def test_other_settings_make_stale(run, key, value, position):
    run.settings = {**SETTINGS, key: value}
    found = positions(run)
    assert position in found
    assert found[2] == NOTHING
    # Kept, under another name.
    assert list(run_folder(run).rglob("*.h5.aside"))


def run_folder(run):
    return Path(run.folder)


def test_other_frames_make_everything_stale(run):
    other = Corpus((CorpusShard("000", "000.npy", 10, "b" * 64),), 1, (0.0,), (1.0,))
    assert positions(run, other) == [NOTHING] * 3


def test_a_mixture_of_another_parent_is_stale(run):
    save(run, PLAN[1], 1, split(ONE), "0" * 64)
    assert positions(run)[1] == Position(0, False)


def test_a_mixture_under_anothers_name_is_stale(run):
    first, second = (run_folder(run) / f"diag/2/{name}.h5" for name in ("001", "002"))
    second.write_bytes(first.read_bytes())
    assert positions(run)[1] == Position(1, False)


def test_damage_is_set_aside_unless_in_a_dry_run(run):
    path = run_folder(run) / "diag/2/001.h5"
    path.write_bytes(path.read_bytes()[:-1])
    run.mend = False
    assert positions(run)[1] == Position(0, False)
    assert path.exists()
    run.mend = True
    run._facts.clear()
    assert positions(run)[1] == Position(0, False)
    assert not path.exists()
    assert path.with_name("001.h5.aside").exists()


def test_statistics_of_anything_else_are_set_aside(run):
    mixture = run.mixture(PLAN[1], 1)
    right = {
        "mixture": run._peek(mixture)["digest"],
        "settings": digest_of("accumulate", SETTINGS["accumulate"], ARITHMETIC),
    }
    folder = run_folder(run) / "diag/2/002"
    paths = [str(folder / f"{part}-of-4.stats.h5") for part in range(4)]
    save_statistics(paths[0], [], **right)
    save_statistics(paths[1], [], **{**right, "mixture": "0" * 64})
    save_statistics(paths[2], [], **{**right, "settings": "0" * 64})
    with open(paths[3], "wb") as stream:
        stream.write(b"gmmcore statistics")
    run.review_statistics(paths, mixture)
    assert sorted(path.name for path in folder.iterdir()) == [
        "0-of-4.stats.h5",
        *(f"{part}-of-4.stats.h5.aside" for part in (1, 2, 3)),
    ]
    run.tidy()
    assert not list(folder.iterdir())


def test_the_final_mixture_is_that_of_the_last(run):
    last = run.mixture(PLAN[1], 2)
    (run_folder(run) / "history.tsv").touch()
    assert not run.final_is_done(last)
    for parent, done in (("0" * 64, False), (run._peek(last)["digest"], True)):
        save_model(run.final_path, ONE, {"parent": parent})
        assert run.final_is_done(last) is done
    (run_folder(run) / "history.tsv").unlink()
    assert not run.final_is_done(last)


def test_one_holds_a_folder_at_a_time(tmp_path):
    script = (
        "import sys; from gmmcore.run import hold_folder\n"
        "hold_folder(sys.argv[1]); print('held', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    locks, marks = (tmp_path / ".snakemake" / name for name in ("locks", "incomplete"))
    for folder in (locks, marks):
        folder.mkdir()
        (folder / "0.output.lock").touch()
    message = rf"another training runs in this folder \(process {holder.pid}\); wait for it"
    with pytest.raises(GmmcoreError, match=message):
        hold_folder(str(tmp_path))
    assert list(locks.iterdir())
    # A hold ends with its process, however that dies.
    holder.kill()
    holder.communicate()
    os.close(hold_folder(str(tmp_path)))
    assert not list(locks.iterdir())
    assert not list(marks.iterdir())


def test_a_configuration_that_was_damaged_is_written_again(run):
    path = run_folder(run) / "config.json"
    run.keep_configuration({"a": 1})
    content = path.read_bytes()
    path.write_bytes(b"\xff\0")
    run.keep_configuration({"a": 1})
    assert path.read_bytes() == content


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    os.close(hold_folder(str(tmp_path)))
