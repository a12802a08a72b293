"""What the workflow itself costs: a whole training through Snakemake beside its E-steps alone.

    python benchmarks/workflow.py                        # 200,000 frames x 60 to 64 components
    python benchmarks/workflow.py --frames 5000000 --components 512

Makes features, runs `snakemake` on them with SIDEKIT's schedule, then takes the E-step of every
iteration again in this process, from the same shards and mixtures and with as many threads.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from gmmcore.configuration import resolve
from gmmcore.features.unpacked import open_shard
from gmmcore.formats.hdf5 import load_model
from gmmcore.statistics import accumulate

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
    shards = [open_shard(path) for path in sorted((results / "shards").glob("*.npy"))]
    seconds, count = 0.0, 0
    for stage in sorted(results.glob("*/*/000.h5")):
        iterations = sorted(stage.parent.glob("*.h5"))
        for path in iterations[:-1]:
            mixture = load_model(path).mixture
            start = time.perf_counter()
            for shard in shards:
                accumulate(mixture, shard, precision=precision, pruning=pruning, threads=threads)
            seconds += time.perf_counter() - start
            count += 1
    return seconds, count


def processor() -> str:
    """Name of the processor."""
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        names = [line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")]
    return names[0] if names else "unknown processor"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=60)
    parser.add_argument("--components", type=int, default=64)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--folder", help="where to work; a temporary folder by default")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gmmcore-", dir=arguments.folder))
    try:
        make_features(folder / "features", arguments.frames, arguments.dimension)
        config = {
            "run": "cost",
            "components": arguments.components,
            "llk_gain": -1.0e9,  # every iteration of the schedule
            "features": {"list": "features", "pattern": "{show}.npy", "vad": None},
        }
        prepare = {**config, "components": 1}
        first = run_workflow(folder, prepare, arguments.cores)
        idle = run_workflow(folder, prepare, arguments.cores)
        whole = run_workflow(folder, config, arguments.cores)
        settings = resolve(config)
        results = folder / "results/cost"
        kernels, count = e_steps(
            results, arguments.cores, settings["precision"], settings["pruning"]
        )
        # Twenty more iterations of two components: nothing but iterations.
        small = {**config, "components": 2}
        run_workflow(folder, {**small, "iterations": [1]}, arguments.cores)
        more = run_workflow(folder, {**small, "iterations": [21]}, arguments.cores)
        shutil.rmtree(results / "diag")
        run_workflow(folder, {**small, "iterations": [20]}, arguments.cores)
        twenty, _ = e_steps(results, arguments.cores, settings["precision"], settings["pruning"])
    finally:
        shutil.rmtree(folder)
    print(
        f"{arguments.frames} frames x {arguments.dimension}, {arguments.cores} cores, {processor()}"
    )
    rows = [
        ("preparing features and shards, with Snakemake's start", first, "s"),
        ("Snakemake with nothing to do", idle, "s"),
        (
            f"training to {arguments.components} components, {count} iterations, after that",
            whole - idle,
            "s",
        ),
        ("their E-steps alone, in one process", kernels, "s"),
        ("share of the E-steps in the run, Snakemake's start included", 100 * kernels / whole, "%"),
        (
            "cost of the workflow an iteration, splits included",
            (whole - idle - kernels) / count,
            "s",
        ),
        ("cost of the workflow an iteration, splits apart", (more - idle - twenty) / 20, "s"),
    ]
    for name, value, unit in rows:
        print(f"{name:<64}{value:9.3f} {unit}")


if __name__ == "__main__":
    main()
