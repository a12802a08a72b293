"""What goes wrong outside: one line says what to do, and the same command goes on."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flows import PLAIN, Workflow, errors, iterations

pytestmark = pytest.mark.slow

Mount = Callable[..., None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mounts something, and unmounts it when the test ends; for root only."""
    if os.getuid():
        pytest.skip("only root may mount file systems")
    mounted: list[Path] = []

    def function(path: Path, *arguments: str) -> None:
        done = subprocess.run(["mount", *arguments, path], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
        mounted.append(path)

    yield function
    for path in reversed(mounted):
        subprocess.run(["umount", path], check=True)


def fill(folder: Path, left: int = 0) -> Path:
    """Fill the file system that holds a folder, but for some bytes."""
    path = folder / "filling"
    status = os.statvfs(folder)
    size = max(0, status.f_bavail * status.f_frsize - left)
    path.write_bytes(b"x" * size)
    return path


def temporary(folder: Path) -> list[Path]:
    """Parts of files."""
    return list(folder.rglob("*.gmmcore-tmp"))


def test_a_full_disk(trained, nearly, mount):
    results = nearly.folder / "results"
    shutil.move(results, nearly.folder / "kept")
    results.mkdir()
    mount(results, "-t", "tmpfs", "-o", "size=1m", "tmpfs")
    shutil.copytree(nearly.folder / "kept", results, dirs_exist_ok=True)
    filling = fill(results, 4096)
    (line,) = errors(nearly.run(code=1))
    assert "results/tiny/full/4/002.h5: cannot be written: No space left on device; free" in line
    assert not temporary(results)
    filling.unlink()
    nearly.run()
    assert nearly.made() == trained.made()


def test_a_full_disk_under_snakemake_itself(trained, nearly, mount, tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    mount(place, "-t", "tmpfs", "-o", "size=2m", "tmpfs")
    for name in ("config.yaml", "corpus", "results"):
        source = nearly.folder / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, place / name)
    flow = Workflow(place)
    filling = fill(place)
    assert "No space left on device" in flow.run(code=1)
    filling.unlink()
    flow.run()
    assert flow.made() == trained.made()


def test_a_folder_that_cannot_be_written(trained, nearly, mount):
    results = nearly.folder / "results"
    mount(results, "--bind", str(results))
    subprocess.run(["mount", "-o", "remount,ro,bind", results], check=True)
    # Snakemake itself meets it first.
    assert "Read-only file system: 'results/tiny/full/4.h5'" in nearly.run(code=1)
    subprocess.run(["mount", "-o", "remount,rw,bind", results], check=True)
    nearly.run()
    assert nearly.made() == trained.made()


def test_a_file_where_the_results_should_be(fresh, trained):
    (fresh.folder / "results").write_text("a file\n")
    assert "this folder cannot be made: Not a directory" in errors(fresh.run(code=1))[0]
    fresh.remove("results")
    fresh.run()
    assert fresh.made() == trained.made()


def test_results_that_vanish_under_a_job(trained, nearly):
    script = (
        "import os, shutil, sys\nshutil.rmtree('results/tiny/full')\nos.execv(REAL, sys.argv)\n"
    )
    (line,) = errors(nearly.wrap_jobs(script).run(code=1))
    assert re.search(r"results/tiny/\S+: cannot be read: No such file", line)
    nearly.run()
    assert nearly.made() == trained.made()


OUT_OF_MEMORY = """
import sys
import numpy
from gmmcore.cli.main import main
from gmmcore.core.sums import Sums
# Memory is refused at work, in a large array. With a limit of the system, it may be refused in any
# place: Python's compiler, HDF5 and OpenBLAS then say so in ways of their own, or crash.
def refused(*_):
    numpy.empty(1 << 60, dtype=numpy.uint8)
Sums.over = refused
sys.exit(main(sys.argv[1:]))
"""


def test_a_job_without_memory(trained, nearly):
    (line,) = errors(nearly.wrap_jobs(OUT_OF_MEMORY).run(code=1))
    assert "out of memory; give the job more" in line
    nearly.run()
    assert nearly.made() == trained.made()


@pytest.mark.parametrize("jobs", ["auto", 3])
def test_a_shard_whose_frames_are_damaged(trained, nearly, jobs):
    nearly.configure({**PLAIN, "jobs": jobs})
    (shard,) = nearly.folder.glob("results/features/*/001-*.npy")
    status = shard.stat()
    content = bytearray(shard.read_bytes())
    content[3000] ^= 1
    shard.write_bytes(content)
    os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns))
    # Another job of the iteration may miss it then.
    lines = errors(nearly.run(code=1))
    assert all(f"/{shard.name}: " in line for line in lines)
    (line,) = (line for line in lines if ": damaged: frames 0 to " in line)
    assert line.endswith("removed; give the same command again, which makes it anew")
    log = nearly.run()
    assert len(re.findall(r"shard \d+: \d", log)) == 1, log
    assert iterations(log) == ["full/4/2"]
    assert nearly.made() == trained.made()


def test_files_that_lost_their_content(trained, copied):
    """As after a loss of power on a file system that does not keep its promises."""
    results = copied.folder / "results/tiny"
    (features,) = copied.folder.glob("results/features/*")

    def zeroed(path: Path) -> None:
        path.write_bytes(bytes(path.stat().st_size))

    def emptied(path: Path) -> None:
        path.write_bytes(b"")

    def halved(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    zeroed(results / "diag/2/001.h5")
    halved(results / "diag/4/002.h5")
    emptied(results / "full/4/000.h5")
    halved(results / "ubm.h5")
    zeroed(features / "corpus.json")
    halved(features / "shows.tsv")
    halved(min(features.glob("*.npy")))
    for record in (copied.folder / ".snakemake/metadata").rglob("*"):
        if record.is_file():
            emptied(record)
    copied.heal()
    copied.heal()
    assert copied.made() == trained.made()


def test_only_what_was_lost_is_made_again(trained, copied):
    path = copied.folder / "results/tiny/diag/2/001.h5"
    path.write_bytes(path.read_bytes()[:2000])
    log = copied.heal()
    assert "results/tiny/diag/2/001.h5: damaged" in log
    # The iteration after it was made of the same mixture, so that it stays.
    assert iterations(log) == ["diag/2/1", "diag/2/2"]
    assert copied.made() == trained.made()


def test_statistics_that_an_interrupted_run_left(trained, nearly):
    """Of other settings, damaged, and of another mixture: none is used, and none stays."""
    nearly.configure({**PLAIN, "jobs": 3})
    (corpus,) = nearly.folder.glob("results/features/*/corpus.json")
    stage = nearly.folder / "results/tiny/full/4"
    for part, mixture in enumerate(["001.h5", "000.h5", "001.h5"]):
        settings = ["--precision", "double"] if part == 0 else []
        output = stage / f"002/{part}-of-3.stats.h5"
        command = ["accumulate", "--mixture", f"{stage}/{mixture}", "--corpus", str(corpus)]
        command += ["--part", str(part), "--parts", "3", *settings]
        assert nearly.verb(*command, "--output", str(output)) == (0, "")
    output.write_bytes(output.read_bytes()[:-100])
    (line,) = errors(nearly.run(code=1))
    assert "; 3 such files removed; give the same command again" in line
    nearly.run()
    assert nearly.made() == trained.made()
    assert not list((nearly.folder / "results").rglob("*.stats.h5*"))


def test_a_second_call_waits_for_the_stage_that_the_first_one_makes(trained, nearly):
    # The first one's job stays in its stage until the second one's job has met it.
    script = (
        "import sys, time, os\n"
        "from gmmcore import files\n"
        "from gmmcore.cli.main import main\n"
        "real = files.replace_bytes\n"
        "def wait(*arguments):\n"
        "    while 'full/4' in str(arguments[0]) and not os.path.exists('go'):\n"
        "        time.sleep(0.05)\n"
        "    real(*arguments)\n"
        "files.replace_bytes = wait\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    target = "results/tiny/full/4.h5"
    first = nearly.wrap_jobs(script).start(target)
    lock = nearly.folder / "results/tiny/full/4/.lock"
    before = lock.read_text()
    while lock.read_text() in ("", before):
        pass
    second = Workflow(nearly.folder).start(target)
    for line in second.stdout:
        if "waiting" in line:
            assert f"full/4: waiting for process {lock.read_text().strip()}, which works" in line
            break
    (nearly.folder / "go").touch()
    for process in (first, second):
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
    nearly.run()
    assert nearly.made() == trained.made()


def test_text_that_a_shell_would_run(trained, copied):
    """Names and paths with whatever a shell, a format string or a wildcard would take up."""
    name = "mine $(touch pwned) `touch pwned` ';touch pwned;' {show} {x:q} & \\ \".txt"
    shows = (copied.folder / "corpus/shows.txt").read_text()
    (copied.folder / name).write_text(shows)
    start = copied.folder / ("start" + name + ".h5")
    shutil.copy(copied.folder / "results/tiny/diag/2/002.h5", start)
    values: dict[str, Any] = copy.deepcopy(PLAIN)
    values |= {"init": {"from": start.name}, "iterations": [0], "full": {"iterations": 0}}
    values["features"] |= {"list": name, "root": "corpus"}
    values["components"] = 2
    copied.configure(values)
    copied.run()
    assert not list(copied.folder.rglob("pwned"))
    # And in a list: such shows are faults, told in one report.
    (copied.folder / name).write_text(
        shows + "../../x\n/etc/passwd\n$(touch pwned)\n;touch pwned\n{x}\n"
    )
    log = copied.run(code=1)
    assert ": 5 faults; fix or remove these shows" in log
    assert not list(copied.folder.rglob("pwned"))
    assert not (copied.folder.parent / "x.h5").exists()


def test_a_list_that_is_not_there_is_told_before_anything_starts(tmp_path):
    flow = Workflow(tmp_path)
    (tmp_path / "show.npy").touch()  # The folder is a list of one show.
    of_held_out = {"share": 0.1, "speakers": "none.txt"}
    of_trials = {"enrolment": "none.txt", "trials": "none.txt"}
    scored = {"statistics": {"ev": {"list": "."}}, "verification": of_trials}
    for path, keys, reason in (
        ("none.txt", {}, "none.txt: the feature list cannot be read: No such file"),
        ("s3://bucket/list.txt", {}, "s3://bucket/list.txt: a URL; expected a file or a folder"),
        (".", {"held_out": {"list": "none.txt"}}, "none.txt: the feature list cannot be read"),
        (".", {"held_out": of_held_out}, "none.txt: cannot be read: No such file"),
        (".", scored, "none.txt: cannot be read: No such file or directory; expected lines"),
        (".", {"init": {"from": "s3://bucket/ubm.h5"}}, "init.from: s3://bucket/ubm.h5 is a URL"),
    ):
        flow.configure({"components": 2, "features": {"list": path}, **keys})
        for arguments in (["-n"], []):
            (line,) = errors(flow.run(*arguments, code=1))
            assert reason in line
    assert not (tmp_path / "results").exists()


def test_nothing_alarming_follows_an_error_of_ours(tmp_path):
    flow = Workflow(tmp_path)
    flow.configure({"components": 2, "features": {"list": "list.txt"}})
    (tmp_path / "list.txt").write_text("absent.npy\n")
    log = flow.run(code=1)
    assert "absent.npy: no such file" in log
    assert "Cannot restore" not in log
