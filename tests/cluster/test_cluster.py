"""Trainings on a cluster, undisturbed."""

from __future__ import annotations

import subprocess
import sys

import pytest
from cluster_flows import CONFIG, STAGES, submissions
from flows import PLAIN, Workflow, changed
from slurm import kill, wait_for, with_variable


def test_bytes_of_the_laptop_with_at_most_one_submission_a_stage(laptop, flow, slurm):
    log = flow.run()
    assert flow.made() == laptop.made()
    jobs = slurm.submitted(flow.folder)
    assert len(jobs) == submissions(log)
    # One packs the four shards, and one is the last stage. The other stages take seconds.
    assert sorted(job["Comment"] for job in jobs) == [
        "rule_iterate_wildcards_demo_full_64",
        "rule_shards_shard",
    ]
    assert "Nothing to be done" in flow.run("-n")
    # The same folder on the laptop.
    assert "Nothing to be done" in Workflow(flow.folder, forked=False).run("-n")


def test_every_stage_of_sidekits_method_is_one_submission(laptop, flow, slurm):
    values = changed(CONFIG, demo=PLAIN["demo"], components=8, method="sidekit")
    flow.configure(values)
    log = flow.run()
    assert submissions(log) <= 5 + 1  # The stages 1, 2, 4, 8 and full, and the shards.
    alone = Workflow(flow.folder, forked=False)
    made = flow.made()
    flow.remove("results", "logs", ".snakemake")
    alone.run()
    assert alone.made() == made


def test_statistics_as_files_between_jobs(laptop, flow, slurm):
    flow.configure(changed(CONFIG, demo=PLAIN["demo"], jobs=2))
    log = flow.run()
    assert flow.made() == laptop.made()
    # The shards, and two jobs for each of four iterations of the last stage.
    assert submissions(log) == 1 + 2 * 4 < 2 * STAGES


@pytest.fixture
def ranked(flow):
    """A training whose last stage is shared by two ranks."""
    # Without the option, srun lets a rank wait for ever for one that was killed.
    mpi = {"ranks": 2, "launcher": "srun --kill-on-bad-exit"}
    flow.configure(changed(CONFIG, demo=PLAIN["demo"], mpi=mpi))
    return flow


def test_ranks_on_two_nodes_share_the_last_stage(laptop, ranked, slurm):
    ranked.run()
    last = slurm.submitted(ranked.folder)[-1]
    assert (last["Comment"], last["NumNodes"]) == ("rule_iterate_wildcards_demo_full_64", "2")
    assert ranked.made() == laptop.made()


def test_a_rank_is_killed(laptop, ranked):
    process = ranked.start()
    wait_for(lambda: with_variable("SLURM_PROCID=1"), 120, "the second rank")
    kill(with_variable("SLURM_PROCID=1"))
    log, _ = process.communicate(timeout=300)
    assert process.returncode == 0, log
    assert submissions(log) == 3
    assert ranked.made() == laptop.made()


@pytest.mark.parametrize("start", [["srun"], ["mpiexec", "-n", "2"]])
def test_ranks_of_mpi_on_two_nodes(slurm, start):
    pytest.importorskip("mpi4py")
    hello = (
        "import os; from mpi4py.MPI import COMM_WORLD as world; "
        "print(world.rank, world.size, os.environ['SLURMD_NODENAME'])"
    )
    command = ["salloc", "--quiet", "--nodes=2", "--ntasks=2", *start, sys.executable, "-c", hello]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert sorted(done.stdout.splitlines()) == ["0 2 n1", "1 2 n2"], done.stderr
