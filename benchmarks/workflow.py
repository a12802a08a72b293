"""What the workflow itself costs: a whole training through Snakemake beside its E-steps alone.

    python -m benchmarks.workflow                        # 200,000 frames x 60 to 64 components
    python -m benchmarks.workflow --frames 5000000 --components 512

Makes features, runs `snakemake` on them with all iterations of the schedule, then takes the E-step
of every iteration again in this process, from the same frames and mixtures with as many threads.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import yaml

from benchmarks.common import DIMENSION, PRECISION, PRUNING, ROOT, cpu_name, cpu_seconds, table
from gmmcore.core.estep import accumulate
from gmmcore.core.frames import Slice
from gmmcore.data.shards import Shard
from gmmcore.formats.hdf5 import load_model


def make_features(folder: Path, frames: int) -> None:
    """Write shows of 20,000 frames drawn from 256 components that overlap, as `.npy` files."""
    rng = np.random.default_rng(1)
    means = 2.0 * rng.standard_normal((256, DIMENSION)).astype(np.float32)
    deviations = rng.uniform(0.5, 1.5, (256, DIMENSION)).astype(np.float32)
    folder.mkdir(parents=True)
    for index, start in enumerate(range(0, frames, 20_000)):
        chosen = rng.integers(0, 256, min(20_000, frames - start))
        noise = rng.standard_normal((len(chosen), DIMENSION), dtype=np.float32)
        np.save(folder / f"show{index:04d}.npy", means[chosen] + deviations[chosen] * noise)


def run_workflow(folder: Path, config: dict[str, object], cores: int) -> tuple[float, float]:
    """Return wall and CPU seconds of one run of Snakemake."""
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile")]
    wall, cpu = time.perf_counter(), cpu_seconds()
    done = subprocess.run(
        [*command, "--cores", str(cores)],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - wall, cpu_seconds() - cpu


def e_steps(results: Path, threads: int) -> tuple[float, int]:
    """Return the seconds of all E-steps of a run in this process, and their number."""
    shards = [Shard(path) for path in sorted(results.parent.glob("features/*/*.npy"))]
    seconds, count = 0.0, 0
    for stage in sorted(results.glob("*/*/000.h5")):
        for before, after in pairwise(sorted(stage.parent.glob("*.h5"))):
            mixture, level = load_model(before).mixture, load_model(after).facts["level"]
            start = time.perf_counter()
            for shard in shards:
                read = Slice(shard, 0, shard.subsets[level])
                accumulate(mixture, read, precision=PRECISION, pruning=PRUNING, threads=threads)
            seconds += time.perf_counter() - start
            count += 1
    return seconds, count


def main() -> None:
    """Run the benchmark; see the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--components", type=int, default=64)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--method", default="principal", help="or sidekit")
    parser.add_argument("--folder", help="where to work; a temporary folder by default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gmmcore-", dir=given.folder) as name:
        folder = Path(name)
        make_features(folder / "features", given.frames)
        config = {
            "run": "cost",
            "components": given.components,
            "method": given.method,
            "llk_gain": -1.0e9,  # Every iteration of the schedule.
            "features": {"list": "features", "pattern": "{show}.npy", "vad": None},
        }
        one = {**config, "components": 1}
        prepare, _ = run_workflow(folder, one, given.cores)
        idle, _ = run_workflow(folder, one, given.cores)
        whole, cpu = run_workflow(folder, config, given.cores)
        kernels, iterations = e_steps(folder / "results/cost", given.cores)
    print(f"{given.frames:,} frames x {DIMENSION}, {given.cores} cores, {cpu_name()}\n")
    added = (whole - idle - kernels) / max(1, iterations)
    rows = [
        ["features and shards, with Snakemake's start", f"{prepare:.2f} s"],
        ["Snakemake with nothing to do", f"{idle:.2f} s"],
        [f"training to {given.components}, {iterations} iterations, with that", f"{whole:.2f} s"],
        ["CPU time of all of its processes", f"{cpu:.2f} s"],
        ["its E-steps alone, in one process", f"{kernels:.2f} s ({kernels / whole:.0%})"],
        ["what the workflow adds to an iteration, with splits", f"{added:.3f} s"],
    ]
    print(table(["", "measured"], rows))


if __name__ == "__main__":
    main()
