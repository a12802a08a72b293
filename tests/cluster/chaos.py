"""Trainings on a cluster that is disturbed at random, until the same command succeeds.

    python tests/cluster/chaos.py --runs 50 --seed 1

Every time, a training is made on the one-machine cluster. At random moments a job is cancelled or
requeued, a process of a job is killed, a node is lost and started again, or Snakemake is killed
while its jobs go on. If the command fails, it is given again. All files must then have the bytes of
a training without a cluster, and nothing may be left over.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster_flows import LONG, OnCluster
from flows import Workflow, changed, finished
from slurm import Slurm, kill, wait_for, with_variable

KINDS = ("job cancelled", "job requeued", "process killed", "node lost", "Snakemake killed")
FORMS = {"auto": LONG, 2: changed(LONG, full={"iterations": 2})}
"""With jobs for every iteration, two are enough."""
NODES = threading.Lock()
"""One node is lost at a time."""


def disturb(
    kind: str, slurm: Slurm, flow: Workflow, process: subprocess.Popen[str], rng: random.Random
) -> str:
    """Do it; what was hit, nothing if there was nothing to hit."""
    if kind == "Snakemake killed":
        process.kill()
        return kind
    running = slurm.running(flow.folder)
    if not running:
        return ""
    job = rng.choice(running)
    if kind == "node lost":
        with NODES:
            slurm.lose_node(job["NodeList"])
            time.sleep(rng.uniform(0, 10))  # SLURM notices it after five seconds.
            slurm.start_node(job["NodeList"])
    elif kind == "process killed":
        victims = sorted(with_variable(f"SLURM_JOB_ID={job['JobId']}"))
        if not victims:
            return ""
        kill([rng.choice(victims)])
    else:
        command = {"job cancelled": ["scancel"], "job requeued": ["scontrol", "requeue"]}[kind]
        subprocess.run([*command, job["JobId"]], check=False)
    return f"{kind} during {job['Comment'].split('_')[1]}"


def chaotic_run(
    slurm: Slurm, flow: OnCluster, rng: random.Random, most: int, latest: float
) -> tuple[list[str], str]:
    """A training with up to `most` disturbances; these, and why it failed if it did."""
    happened: list[str] = []
    wanted = rng.randint(1, most)
    for _ in range(most + 5):
        process = flow.start()
        while len(happened) < wanted:
            try:
                process.wait(rng.uniform(0.5, latest))
                break
            except subprocess.TimeoutExpired:
                happened += filter(None, [disturb(rng.choice(KINDS), slurm, flow, process, rng)])
        output, _ = process.communicate(timeout=600)
        with open(flow.folder / "output.txt", "a") as log:
            log.write(f"{output}\n---- {happened}\n")
        if process.returncode == 0:
            wait_for(lambda: not slurm.running(flow.folder), 120, "jobs")
            return happened, ""
    return happened, "the command does not succeed"


def undisturbed(folder: Path, jobs: str | int) -> Workflow:
    """A training without a cluster."""
    folder.mkdir()
    return finished(Workflow(folder, forked=False), changed(FORMS[jobs], jobs=jobs))


def main() -> int:
    """All runs, and a table of what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="number of the first run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most", type=int, default=4, help="disturbances at most, in a run")
    parser.add_argument("--parallel", type=int, default=2, help="runs at a time on the cluster")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="cluster-"))
    (folder / "slurm").mkdir()
    laptops = {jobs: undisturbed(folder / f"laptop-{jobs}", jobs) for jobs in FORMS}
    slurm = Slurm(folder / "slurm", nodes=arguments.parallel + 1)
    counts: Counter[str] = Counter()
    failed = 0

    def work(number: int) -> tuple[list[str], str]:
        rng = random.Random(f"{arguments.seed}/{number}")
        laptop = laptops[rng.choice(list(FORMS))]
        flow = OnCluster(laptop.copy_to(folder / f"run{number:04d}").folder)
        # In half of the runs the shards are there.
        flow.remove(*rng.choice([["results", "logs", ".snakemake"], ["results/tiny"]]))
        happened, wrong = chaotic_run(slurm, flow, rng, arguments.most, 20)
        left = [path.name for path in flow.folder.rglob("*.gmmcore-tmp")]
        left += [path.name for path in flow.folder.glob("results/**/*.stats.h5")]
        differ = sorted(name for name, _ in set(laptop.made().items()) ^ set(flow.made().items()))
        if not (wrong := wrong or " ".join([*differ, *left])):
            shutil.rmtree(flow.folder)
        return happened, wrong

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    numbers = range(arguments.first, arguments.first + arguments.runs)
    try:
        slurm.start()
        with ThreadPoolExecutor(arguments.parallel) as pool:
            try:
                for number, (happened, wrong) in zip(numbers, pool.map(work, numbers), strict=True):
                    counts.update(happened)
                    failed += bool(wrong)
                    what = wrong or "same bytes"
                    print(f"run {number}: {what} ({'; '.join(happened)})", flush=True)
            except KeyboardInterrupt:
                slurm.stop()
                os._exit(130)  # Without a wait for the threads.
    finally:
        slurm.stop()
    for what, count in sorted(counts.items()):
        print(f"{what:40s} {count:5d}")
    print(f"{arguments.runs - failed} of {arguments.runs} runs ended with the bytes of the laptop")
    if not failed:
        shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
