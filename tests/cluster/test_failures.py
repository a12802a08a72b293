"""Jobs, nodes and Snakemake fail during the last stage; the training ends in the same bytes."""

from __future__ import annotations

import subprocess
import time

import pytest
from cluster_flows import LONG, OnCluster, submissions
from flows import Workflow, finished
from slurm import wait_for


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A finished training without a cluster whose last stage takes longer."""
    return finished(Workflow(tmp_path_factory.mktemp("long"), forked=False), LONG)


@pytest.fixture
def nearly(laptop, slurm, tmp_path) -> OnCluster:
    """A copy of which the last stage is yet to be made."""
    flow = OnCluster(laptop.copy_to(tmp_path / "run").folder)
    names = ["full/4.h5", "ubm.h5", "history.tsv", "SHA256SUMS"]
    names += [f"full/4/{path.name}" for path in flow.folder.glob("results/tiny/full/4/0[0-6]?.h5")]
    flow.remove(*(f"results/tiny/{name}" for name in names))
    return flow


def started(flow, slurm, *arguments):
    """A run whose job has made an iteration; the process, and the job."""
    process = flow.start(*arguments)
    wait_for((flow.folder / "results/tiny/full/4/001.h5").exists, 90, "the first iteration")
    (job,) = slurm.running(flow.folder)
    return process, job


def end(process):
    """The log of a run, which must have succeeded."""
    log, _ = process.communicate(timeout=400)
    assert process.returncode == 0, log
    return log


def test_a_job_is_cancelled(laptop, nearly, slurm):
    process, job = started(nearly, slurm)
    subprocess.run(["scancel", job["JobId"]], check=True)
    assert submissions(end(process)) == 2
    assert nearly.made() == laptop.made()


def test_a_job_is_requeued_as_preemption_does(laptop, nearly, slurm):
    process, job = started(nearly, slurm)
    subprocess.run(["scontrol", "requeue", job["JobId"]], check=True)
    assert submissions(end(process)) == 1
    (again,) = slurm.submitted(nearly.folder)
    assert again["Restarts"] == "1"
    assert nearly.made() == laptop.made()


def test_a_node_is_lost(laptop, nearly, slurm):
    process, job = started(nearly, slurm)
    slurm.lose_node(job["NodeList"])
    try:
        assert submissions(end(process)) == 1
        (again,) = slurm.submitted(nearly.folder)
        assert (again["Restarts"], again["NodeList"] != job["NodeList"]) == ("1", True)
    finally:
        slurm.start_node(job["NodeList"])
    assert nearly.made() == laptop.made()


def test_snakemake_is_killed_and_its_job_goes_on(laptop, nearly, slurm):
    process, _ = started(nearly, slurm)
    process.kill()
    process.wait()
    process.stdout.close()
    nearly.run()
    wait_for(lambda: not slurm.running(nearly.folder), 60, "the job of the killed Snakemake")
    assert nearly.made() == laptop.made()
    assert not list(nearly.folder.rglob("*.gmmcore-tmp"))


def test_a_job_over_its_memory_has_more_when_it_is_retried(laptop, nearly, slurm):
    # Python, numpy and the two Snakemakes around them need more than the first of these.
    log = nearly.run("--set-resources", "iterate:mem_mb=30*attempt**4")
    first, *_, last = (job["MinMemoryNode"] for job in slurm.submitted(nearly.folder))
    assert (first, last) == ("30M", "480M"), log
    assert nearly.made() == laptop.made()


def test_a_job_over_its_time_has_more_when_it_is_retried(laptop, nearly, slurm):
    # The first attempt stands still.
    wrapped = nearly.wrap_jobs(
        "import os, sys, time\n"
        "if sys.argv[1] == 'stages' and not os.path.exists('stood'):\n"
        "    open('stood', 'w').close()\n"
        "    time.sleep(600)\n"
        "os.execv(REAL, sys.argv)\n"
    )
    wrapped.command = nearly.command
    begin = time.monotonic()
    log = wrapped.run("--set-resources", "iterate:runtime=attempt")
    assert submissions(log) == 2
    assert time.monotonic() - begin > 60
    limits = [job["TimeLimit"] for job in slurm.submitted(nearly.folder)]
    assert limits == ["00:01:00", "00:02:00"]
    assert nearly.made() == laptop.made()
