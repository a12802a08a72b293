"""A run that is stopped goes on from what is done, by the same command."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import TINY, Workflow
from gmmcore.lifeline import VARIABLE, own_line
from gmmcore.workflow import InitialMixture, verb_settings

from gmmcore.cli import main
from gmmcore.configuration import resolve
from gmmcore.errors import GmmcoreError
from gmmcore.formats import hdf5

pytestmark = pytest.mark.slow

STOPPED = "stopped; the lines above say why. The same command goes on from what is done."


def started(flow: Workflow) -> subprocess.Popen[str]:
    """A run whose first job has begun."""
    process = flow.start()
    logs = flow.folder / "logs/tiny/full/4/002.log"
    while not logs.exists() and process.poll() is None:
        time.sleep(0.01)
    return process


@pytest.fixture
def slow_jobs(nearly: Workflow) -> Workflow:
    """A copy whose jobs wait a moment before they begin."""
    folder = nearly.folder / "bin"
    folder.mkdir()
    real = Path(sys.executable).parent / "gmmcore"
    (folder / "gmmcore").write_text(f"#!/bin/sh\nsleep 5\nexec '{real}' \"$@\"\n")
    (folder / "gmmcore").chmod(0o755)
    (nearly.folder / "logs/tiny/full/4/002.log").unlink(missing_ok=True)
    path = f"{folder}{os.pathsep}{nearly.environment()['PATH']}"
    nearly.environment = lambda: {**os.environ, "PATH": path}  # type: ignore[method-assign]
    return nearly


@pytest.mark.parametrize(
    ("number", "whole_group"),
    [(signal.SIGINT, True), (signal.SIGTERM, True), (signal.SIGTERM, False)],
)
def test_asked_to_stop(trained, slow_jobs, number, whole_group):
    process = started(slow_jobs)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in output
    if number == signal.SIGTERM:
        assert STOPPED in output
    flow = Workflow(slow_jobs.folder)
    flow.run()
    assert flow.digests() == trained.digests()
    assert not list(flow.folder.glob("results/**/.*"))


def test_killed_and_all_that_it_leaves_behind(trained, slow_jobs):
    process = started(slow_jobs)
    process.kill()
    process.wait()
    state = slow_jobs.folder / ".snakemake"
    assert list(state.glob("locks/*.lock"))
    # Marks that Snakemake itself would answer with "--unlock" or with making it all again.
    done = "results/tiny/full/4/001.h5"
    (state / "incomplete" / base64.b64encode(done.encode()).decode()).touch()
    flow = Workflow(slow_jobs.folder)
    assert "iteration  1" not in flow.run()
    assert flow.digests() == trained.digests()
    process.stdout.close()


def test_temporary_files_of_dead_writers_are_removed(nearly):
    left = nearly.folder / "results/tiny/full/4/.002.h5.abcdefgh.gmmcore-tmp"
    elsewhere = nearly.folder / "results/tiny/diag/2/.001.h5.abcdefgh.gmmcore-tmp"
    left.write_bytes(b"half")
    elsewhere.write_bytes(b"half")
    nearly.run()
    assert not left.exists()
    assert not elsewhere.exists()


def test_jobs_end_with_the_process_that_started_them(tmp_path):
    """Through a shell between the two, as Snakemake starts them."""
    job = (
        "import os, time; from gmmcore.lifeline import VARIABLE, end_with;"
        "end_with(os.environ[VARIABLE]); print('begun', flush=True); time.sleep(60)"
    )
    scheduler = (
        "import os, subprocess, sys; from gmmcore.lifeline import VARIABLE, own_line;"
        "os.environ[VARIABLE] = own_line();"
        "subprocess.run(['bash', '-c', f'{sys.executable} -c \"$JOB\" | cat'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", scheduler],
        env={**os.environ, "JOB": job},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout.readline() == "begun\n"
    process.kill()
    # The pipe ends when the last of them has ended.
    begin = time.monotonic()
    assert process.stdout.read() == "gmmcore: error: Snakemake has ended, and so does this job\n"
    assert time.monotonic() - begin < 30
    process.wait()
    process.stdout.close()


def test_a_job_whose_scheduler_is_gone_or_out_of_sight():
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    namespace = own_line().partition(" ")[2]
    for line, code in ((f"{gone} {namespace}", 1), (f"{gone} 1", 0), ("nonsense", 0)):
        done = subprocess.run(
            [sys.executable, "-m", "gmmcore.cli", "--version"],
            env={**os.environ, VARIABLE: line},
            capture_output=True,
        )
        assert done.returncode == code


def going_on(flow: Workflow) -> tuple[Path, list[str]]:
    """A stage without its iterations, and the command that makes them."""
    stage = flow.folder / "results/tiny/diag/4"
    for path in stage.glob("00[123].h5"):
        path.unlink()
    shards = sorted(map(str, flow.folder.glob("results/tiny/shards/*.npy")))
    settings = json.dumps(verb_settings(resolve(TINY), InitialMixture())["diag"])
    command = [
        *("maximise", "--mixture", f"{stage}/000.h5", "--shards", *shards, "--components", "4"),
        *("--corpus", f"{flow.folder}/results/tiny/corpus.json", "--settings", settings),
        *("--output", f"{stage}/001.h5", "--until", "3"),
    ]
    return stage, command


@pytest.mark.parametrize(
    "trouble", [GmmcoreError("no space"), KeyboardInterrupt(), MemoryError(), RuntimeError("bug")]
)
def test_what_ends_a_job_that_goes_on(trained, copied, trouble, monkeypatch):
    stage, command = going_on(copied)
    real, calls = hdf5.save_model, []

    def save(path, *arguments):
        calls.append(path)
        if len(calls) == 3:
            raise trouble
        return real(path, *arguments)

    monkeypatch.setattr(hdf5, "save_model", save)
    if isinstance(trouble, RuntimeError):
        with pytest.raises(RuntimeError, match="bug"):
            main(command)
    else:
        # The file it was started for is whole: Snakemake must not take it for a failed job's.
        assert main(command) == 0
    assert sorted(path.name for path in stage.glob("*.h5")) == ["000.h5", "001.h5", "002.h5"]
    copied.run()
    assert copied.digests() == trained.digests()


def test_a_shard_that_is_damaged_under_a_job_that_goes_on(trained, copied, monkeypatch, capsys):
    stage, command = going_on(copied)
    shard = min((copied.folder / "results/tiny/shards").glob("*.npy"))
    real = hdf5.save_model

    def save(*arguments):
        content = bytearray(shard.read_bytes())
        content[3000] ^= 1
        shard.write_bytes(content)
        return real(*arguments)

    monkeypatch.setattr(hdf5, "save_model", save)
    assert main(command) == 0
    # It was set aside, and so the next job does not meet it: this one says so.
    warning = capsys.readouterr().err
    assert warning.startswith(f"warning: {shard}: damaged: frames 0 to ")
    assert f"set aside as {shard.name}.aside; give the same command again" in warning
    assert sorted(path.name for path in stage.glob("*.h5")) == ["000.h5", "001.h5"]
    copied.run()
    assert copied.digests() == trained.digests()
