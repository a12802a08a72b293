"""A run that is stopped goes on from what is done, by the same command."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import time

import pytest
from flows import PLAIN, Workflow, iterations

from gmmcore.cli.main import main
from gmmcore.errors import GmmcoreError
from gmmcore.workflow import stage

pytestmark = pytest.mark.slow

STOPPED = "stopped; the lines above say why. The same command goes on from what is done"


def started(flow: Workflow) -> subprocess.Popen[str]:
    """A run whose first job has begun, and waits a moment before it works."""
    (flow.folder / "logs/tiny/full/4.log").unlink(missing_ok=True)
    script = "import os, sys, time\ntime.sleep(3)\nos.execv(REAL, sys.argv)\n"
    process = flow.wrap_jobs(script).start()
    while not (flow.folder / "logs/tiny/full/4.log").exists() and process.poll() is None:
        time.sleep(0.01)
    return process


@pytest.mark.parametrize(
    ("number", "whole_group"),
    [(signal.SIGINT, True), (signal.SIGTERM, True), (signal.SIGTERM, False)],
)
def test_asked_to_stop(trained, nearly, number, whole_group):
    process = started(nearly)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    output, _ = process.communicate(timeout=600)
    assert process.returncode != 0
    assert "Traceback" not in output
    if number == signal.SIGTERM:
        assert STOPPED in output
    nearly.run()
    assert nearly.made() == trained.made()
    assert not list(nearly.folder.rglob("*.gmmcore-tmp"))


@pytest.mark.parametrize("again", [[], ["--forceall"]])
def test_killed_and_all_that_it_leaves_behind(trained, nearly, again):
    process = started(nearly)
    process.kill()
    process.wait()
    # A mark that Snakemake itself would answer with "--rerun-incomplete" or with making it again.
    done = "results/tiny/diag/4.h5"
    mark = base64.b64encode(done.encode()).decode()
    (nearly.folder / ".snakemake/incomplete").mkdir(exist_ok=True)
    (nearly.folder / ".snakemake/incomplete" / mark).touch()
    assert iterations(nearly.run(*again)) in (["full/4/2"], [])  # [] if the orphan made it
    assert nearly.made() == trained.made()
    process.stdout.close()


def test_temporary_files_of_dead_writers_are_removed(nearly):
    left = nearly.folder / "results/tiny/full/4/.002.h5.abcdefgh.gmmcore-tmp"
    left.write_bytes(b"half")
    nearly.run()
    assert not left.exists()


def stage_command(flow: Workflow) -> list[str]:
    """Remove the iterations of a stage; the command that makes them."""
    # Snakemake removes the last mixture when it starts the job.
    names = ("4.h5", "4/001.h5", "4/002.h5", "4/003.h5")
    flow.remove(*(f"results/tiny/diag/{name}" for name in names))
    (corpus,) = flow.folder.glob("results/features/*/corpus.json")
    first = flow.folder / "results/tiny/diag/4/000.h5"
    command = ["iterate", "--mixture", str(first), "--corpus", str(corpus), "--iterations", "3"]
    return [*command, "--llk-gain=-1.0", "--output", str(flow.folder / "results/tiny/diag/4.h5")]


@pytest.mark.parametrize(
    ("trouble", "jobs"),
    [
        (GmmcoreError("no space"), "auto"),
        (KeyboardInterrupt(), 2),
        (MemoryError(), "auto"),
        (RuntimeError("bug"), "auto"),
    ],
)
def test_a_stage_goes_on_from_the_iterations_that_are_there(
    trained, copied, trouble, jobs, monkeypatch
):
    command = stage_command(copied)
    real, calls = stage.save_model, []

    def save(path, *arguments, **more):
        calls.append(path)
        if len(calls) == 3:
            raise trouble
        return real(path, *arguments, **more)

    monkeypatch.setattr(stage, "save_model", save)
    if isinstance(trouble, RuntimeError):
        with pytest.raises(RuntimeError, match="bug"):
            main(command)
    else:
        assert main(command) != 0
    folder = copied.folder / "results/tiny/diag/4"
    assert sorted(path.name for path in folder.glob("*.h5")) == ["000.h5", "001.h5", "002.h5"]
    copied.configure({**PLAIN, "jobs": jobs})
    log = copied.run()
    assert iterations(log)[:1] == ["diag/4/3"]
    assert copied.made() == trained.made()


def test_a_closed_pipe_ends_a_run(trained, fresh):
    """As in `snakemake | head`: a thread of Snakemake's meets it."""
    fresh.forked = False
    process = fresh.start()
    while "Execute 1 jobs" not in process.stdout.readline():
        pass
    process.stdout.close()
    assert process.wait(600) != 0
    fresh.run()
    assert fresh.made() == trained.made()
