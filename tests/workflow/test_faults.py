"""What goes wrong outside: one line says what to do, and the same command mends it."""

from __future__ import annotations

import copy
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PLAIN, Workflow

from gmmcore.cli import main

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


def errors(log: str) -> list[str]:
    """The lines in which gmmcore says what is wrong; at least one."""
    found = [line for line in log.splitlines() if re.match(r"gmmcore( \w+)?: error: ", line)]
    assert found, log
    return found


def iterations(log: str) -> list[str]:
    """Iterations that were made."""
    return re.findall(r"^(?:diag|full) +\d+  iteration +\d+", log, re.MULTILINE)


def job_wrapper(flow: Workflow, text: str) -> None:
    """Put a command before the real `gmmcore` in the path of the jobs."""
    folder = flow.folder / "bin"
    folder.mkdir()
    script = folder / "gmmcore"
    real = Path(sys.executable).parent / "gmmcore"
    script.write_text(f"#!{sys.executable}\nREAL = {str(real)!r}\n{text}")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    path = f"{folder}{os.pathsep}{flow.environment()['PATH']}"
    flow.environment = lambda: {**os.environ, "PATH": path}  # type: ignore[method-assign]


def unwrapped(flow: Workflow) -> Workflow:
    """The same folder without the wrapper."""
    return Workflow(flow.folder)


def fill(folder: Path, left: int = 0) -> Path:
    """Fill the file system that holds a folder, but for some bytes."""
    path = folder / "filling"
    status = os.statvfs(folder)
    size = max(0, status.f_bavail * status.f_frsize - left)
    path.write_bytes(b"x" * size)
    return path


def test_a_full_disk(trained, nearly, mount):
    results = nearly.folder / "results"
    shutil.move(results, nearly.folder / "kept")
    results.mkdir()
    mount(results, "-t", "tmpfs", "-o", "size=1m", "tmpfs")
    shutil.copytree(nearly.folder / "kept", results, dirs_exist_ok=True)
    filling = fill(results, 4096)
    (line,) = errors(nearly.run(code=1))
    assert "results/tiny/full/4/002.h5: cannot be written: No space left on device; free" in line
    assert not list(results.rglob(".*"))  # no part of a file is left
    filling.unlink()
    nearly.run()
    assert nearly.digests() == trained.digests()


def test_a_full_disk_under_snakemake_itself(trained, nearly, mount, tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    mount(place, "-t", "tmpfs", "-o", "size=2m", "tmpfs")
    for name in ("config.yaml", "corpus", "results"):
        source = nearly.folder / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, place / name)
    flow = Workflow(place)
    filling = fill(place)
    log = flow.run(code=1)
    (line,) = errors(log)
    assert "cannot be written: No space left on device; free space" in line
    assert "Traceback" not in log
    filling.unlink()
    flow.run()
    assert flow.digests() == trained.digests()


def test_a_folder_that_cannot_be_written(trained, nearly, mount):
    results = nearly.folder / "results"
    mount(results, "--bind", str(results))
    subprocess.run(["mount", "-o", "remount,ro,bind", results], check=True)
    log = nearly.run(code=1)
    (line,) = errors(log)
    assert "results/tiny: cannot be written: read-only" in line
    assert "mend the folder" in line
    assert "Traceback" not in log
    subprocess.run(["mount", "-o", "remount,rw,bind", results], check=True)
    nearly.run()
    assert nearly.digests() == trained.digests()


def test_a_file_where_the_results_should_be(nearly):
    shutil.rmtree(nearly.folder / "results")
    (nearly.folder / "results").write_text("a file\n")
    (line,) = errors(nearly.run(code=1))
    assert "results/tiny: this folder cannot be made" in line


def test_results_that_vanish_under_a_job(trained, nearly):
    script = (
        "import os, shutil, sys\nshutil.rmtree('results/tiny/full')\nos.execv(REAL, sys.argv)\n"
    )
    job_wrapper(nearly, script)
    (line,) = errors(nearly.run(code=1))
    assert re.search(r"results/tiny/\S+: cannot be read: No such file", line)
    flow = unwrapped(nearly)
    flow.run()
    assert flow.digests() == trained.digests()


OUT_OF_MEMORY = """
import os, resource, sys
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy
import gmmcore.features.shards, gmmcore.formats.statistics_file, gmmcore.statistics
from gmmcore.verbs import maximise
from gmmcore.cli import main
# Memory runs out at work, where it is asked for in large pieces: Python's compiler, HDF5 and
# OpenBLAS, when the first bytes are refused to them, say so in ways of their own or crash.
numpy.linalg.cholesky(numpy.eye(200)) @ numpy.eye(200)
statistics_of_shards = maximise.statistics_of_shards
def limited(*arguments):
    pages = int(open("/proc/self/statm").read().split()[0])
    # Less than the stack of a thread.
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (4 << 20),) * 2)
    return statistics_of_shards(*arguments)
maximise.statistics_of_shards = limited
sys.exit(main(sys.argv[1:]))
"""


def test_a_job_without_memory(trained, nearly):
    job_wrapper(nearly, OUT_OF_MEMORY)
    (line,) = errors(nearly.run(code=1))
    assert "out of memory; give the job more" in line
    flow = unwrapped(nearly)
    flow.run()
    assert flow.digests() == trained.digests()


def test_a_shard_that_is_damaged_between_iterations(trained, nearly):
    nearly.configure({**PLAIN, "jobs": 3})
    shard = sorted((nearly.folder / "results/tiny/shards").glob("*.npy"))[1]
    content = bytearray(shard.read_bytes())
    content[3000] ^= 1
    shard.write_bytes(content)
    log = nearly.run(code=1)
    (line,) = errors(log)
    assert f"shards/{shard.name}: damaged: frames 0 to " in line
    assert "give the same command again, which packs it anew and goes on" in line
    again = nearly.run()
    # The first command itself may come to it, if another job ends at the right moment.
    assert len(re.findall(r"^shard ", log + again, re.MULTILINE)) == 1, log + again
    assert iterations(again) == ["full     4  iteration  2"]
    assert nearly.digests() == trained.digests()
    assert (
        nearly.digests("results/tiny/shards/*.npy").keys()
        == trained.digests("results/tiny/shards/*.npy").keys()
    )


def test_files_that_lost_their_content(trained, copied):
    """As after a loss of power on a file system that does not keep its promises."""
    results = copied.folder / "results/tiny"

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
    zeroed(results / "corpus.json")
    halved(results / "shows.tsv")
    zeroed(results / "config.json")
    halved(sorted((results / "shards").glob("*.npy"))[0])
    for record in (copied.folder / ".snakemake/metadata").rglob("*"):
        if record.is_file():
            emptied(record)
    log = copied.run()
    assert "results/tiny/diag/2/001.h5: damaged; set aside as 001.h5.aside, made again" in log
    assert copied.digests() == trained.digests()


def test_only_what_was_lost_is_made_again(trained, copied):
    path = copied.folder / "results/tiny/diag/2/001.h5"
    path.write_bytes(path.read_bytes()[:2000])
    assert iterations(copied.run()) == ["diag     2  iteration  1"]
    assert copied.digests() == trained.digests()


def test_statistics_that_an_interrupted_run_left(trained, nearly):
    """Of other settings, damaged, and of another mixture: none is used."""
    nearly.configure({**PLAIN, "jobs": 3})
    results = nearly.folder / "results/tiny"
    shards = sorted((results / "shards").glob("*.npy"))
    folder = results / "full/4/002"
    mixtures = ["full/4/001.h5", "full/4/000.h5", "full/4/001.h5"]
    for part, (mixture, shard) in enumerate(zip(mixtures, shards, strict=True)):
        settings = '{"precision": "double"}' if part == 0 else "{}"
        output = folder / f"{part}-of-3.stats.h5"
        command = ["accumulate", "--mixture", str(results / mixture), "--shards", str(shard)]
        assert main([*command, "--settings", settings, "--output", str(output)]) == 0
    output.write_bytes(output.read_bytes()[:-100])
    log = nearly.run()
    assert "0-of-3.stats.h5: taken with another mixture or other settings; set aside" in log
    assert nearly.digests() == trained.digests()
    assert not list(results.rglob("*.stats.h5*"))


def test_two_runs_in_one_folder(trained, nearly):
    # Its jobs wait for the other run to have ended, however slowly that starts.
    script = (
        "import os, sys, time\n"
        "while not os.path.exists('go'):\n    time.sleep(0.05)\n"
        "os.execv(REAL, sys.argv)\n"
    )
    job_wrapper(nearly, script)
    first = nearly.start()
    for line in first.stdout:
        if "Building DAG" in line:
            break
    holder = nearly.folder / ".snakemake/gmmcore.lock"
    while not holder.exists() or not holder.read_text():
        pass
    second = unwrapped(nearly).run(code=1)
    (nearly.folder / "go").touch()
    (line,) = errors(second)
    assert f"another training runs in this folder (process {first.pid}); wait for it" in line
    assert first.wait(120) == 0
    first.stdout.close()
    assert nearly.digests() == trained.digests()


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
    assert ": 5 faults; mend or remove these shows" in log
    assert not list(copied.folder.rglob("pwned"))
    assert not (copied.folder.parent / "x.h5").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"componets": 4}, "unknown key componets; did you mean components?"),
        ({"features": {**PLAIN["features"], "window": 4}}, "features: window: 4: expected an odd"),
    ],
)
def test_a_mistake_in_the_configuration_stops_before_anything_runs(workflow, change, message):
    workflow.configure({**PLAIN, **change})
    log = workflow.run(code=1)
    (line,) = errors(log)
    assert message in line
    assert "Traceback" not in log
    assert not (workflow.folder / "results").exists()


@pytest.mark.parametrize("option", [["--forceall"], ["--forcerun", "maximise"]])
def test_forcing_is_refused_before_anything_is_lost(trained, copied, option):
    (line,) = errors(copied.run(*option, code=1))
    assert "to make something again, remove its file, or results/tiny for all of it" in line
    assert copied.digests() == trained.digests()
