"""What the workflow itself costs: a whole training through Snakemake beside its E-steps alone.

    python -m benchmarks.workflow                        # 200,000 frames x 60 to 64 components
    python -m benchmarks.workflow --frames 5000000 --components 512

Makes features, runs `snakemake` on them with SIDEKIT's numbers of iterations, then takes the E-step
of every iteration again in this process, from the same frames and mixtures with as many threads.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from benchmarks.speeds.clock import processor as name_of_processor
from gmmcore.config.configuration import resolve
from gmmcore.core.estep import accumulate
from gmmcore.core.frames import Slice
from gmmcore.data.shards import Shard
from gmmcore.formats.hdf5 import load_model

ROOT = Path(__file__).resolve().parents[1]


def make_features(folder: Path, frames: int, dimension: int) -> None:
    """Shows of 20,000 frames drawn from 256 components that overlap, as `.npy` files."""
    rng = np.random.default_rng(1)
    means = 2.0 * rng.standard_normal((256, dimension)).astype(np.float32)
    deviations = rng.uniform(0.5, 1.5, (256, dimension)).astype(np.float32)
    folder.mkdir(parents=True)
    for index, start in enumerate(range(0, frames, 20_000)):
        chosen = rng.integers(0, 256, min(20_000, frames - start))
        noise = rng.standard_normal((len(chosen), dimension), dtype=np.float32)
        np.save(folder / f"show{index:04d}.npy", means[chosen] + deviations[chosen] * noise)


def run_workflow(folder: Path, config: dict[str, object], cores: int) -> float:
    """Seconds of one run of Snakemake."""
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile")]
    start = time.perf_counter()
    result = subprocess.run(
        [*command, "--cores", str(cores)],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - start
    if result.returncode:
        sys.exit(result.stdout + result.stderr)
    return seconds


def e_steps(results: Path, threads: int, precision: str, pruning: float) -> tuple[float, int]:
    """Seconds of all E-steps of a run in this process, and their number."""
    shards = [Shard(path) for path in sorted(results.parent.glob("features/*/*.npy"))]
    seconds, count = 0.0, 0
    for stage in sorted(results.glob("*/*/000.h5")):
        iterations = sorted(stage.parent.glob("*.h5"))
        for before, after in pairwise(iterations):
            mixture, level = load_model(before).mixture, load_model(after).facts["level"]
            start = time.perf_counter()
            for shard in shards:
                read = Slice(shard, 0, shard.subsets[level])
                accumulate(mixture, read, precision=precision, pruning=pruning, threads=threads)
            seconds += time.perf_counter() - start
            count += 1
    return seconds, count


class Costs(NamedTuple):
    """Seconds of a training, and of its parts.

    Attributes
    ----------
    prepare : float
        Features to shards, with Snakemake's start.
    idle : float
        Snakemake with nothing to do.
    whole : float
        The training, with Snakemake's start.
    processor : float
        Processor time of the training, with Snakemake's.
    kernels : float
        Its E-steps alone, in one process.
    iterations : int
    """

    prepare: float
    idle: float
    whole: float
    processor: float
    kernels: float
    iterations: int

    @property
    def share(self) -> float:
        """Share of the E-steps in the run."""
        return self.kernels / self.whole

    @property
    def an_iteration(self) -> float:
        """What the workflow adds to an iteration, with splits and M-steps."""
        return (self.whole - self.idle - self.kernels) / self.iterations


def costs(
    frames: int,
    components: int,
    cores: int,
    *,
    dimension: int = 60,
    method: str = "principal",
    parent: str | None = None,
) -> Costs:
    """Train in a folder that is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="gmmcore-", dir=parent))
    try:
        make_features(folder / "features", frames, dimension)
        config = {
            "run": "cost",
            "components": components,
            "method": method,
            "llk_gain": -1.0e9,  # every iteration of the schedule
            "features": {"list": "features", "pattern": "{show}.npy", "vad": None},
        }
        one = {**config, "components": 1}
        prepare = run_workflow(folder, one, cores)
        idle = run_workflow(folder, one, cores)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        whole = run_workflow(folder, config, cores)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
        settings = resolve(config)
        kernels, iterations = e_steps(
            folder / "results/cost", cores, settings.precision, settings.pruning
        )
    finally:
        shutil.rmtree(folder)
    return Costs(prepare, idle, whole, processor, kernels, iterations)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=60)
    parser.add_argument("--components", type=int, default=64)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--method", default="principal", help="or sidekit")
    parser.add_argument("--folder", help="where to work; a temporary folder by default")
    given = parser.parse_args()
    found = costs(
        given.frames,
        given.components,
        given.cores,
        dimension=given.dimension,
        method=given.method,
        parent=given.folder,
    )
    print(f"{given.frames} frames x {given.dimension}, {given.cores} cores, {name_of_processor()}")
    rows = [
        ("preparing features and shards, with Snakemake's start", f"{found.prepare:9.2f} s"),
        ("Snakemake with nothing to do", f"{found.idle:9.2f} s"),
        (
            f"training to {given.components} components, {found.iterations} iterations, with that",
            f"{found.whole:9.2f} s",
        ),
        ("processor time of all of its processes", f"{found.processor:9.2f} s"),
        ("its E-steps alone, in one process", f"{found.kernels:9.2f} s"),
        ("share of the E-steps in the run", f"{found.share:9.1%}"),
        ("what the workflow adds to an iteration, with splits", f"{found.an_iteration:9.3f} s"),
    ]
    for name, value in rows:
        print(f"{name:<64}{value}")


if __name__ == "__main__":
    main()
