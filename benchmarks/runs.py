"""Six trainings of one configuration, killed in the middle, beside each of them alone.

    python -m benchmarks.runs /data/features --components 64 128 256

Three sizes, with and without normalisation. The features are shows in HDF5 files as SIDEKIT
writes them (`--pattern` says otherwise). The trainings together are killed (SIGKILL) after half of
the time that they need, and the same command is given again. Prints what was shared, and whether
the mixtures have the bytes of those trained alone.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]


def configuration(features: str, pattern: str, sizes: list[int]) -> dict[str, Any]:
    """Six runs."""
    runs = {
        f"{name}{size}": {"components": size, "features": {"normalisation": normalisation}}
        for name, normalisation in (("plain", None), ("cmvn", "cmvn"))
        for size in sizes
    }
    return {
        "iterations": [2, 4, 4, 8],
        "full": {"iterations": 2},
        "features": {
            "list": features,
            "pattern": pattern,
            "select_speech": False,
            "delta": True,
            "double_delta": True,
        },
        "runs": runs,
    }


def text_of(config: dict[str, Any]) -> str:
    """The configuration as a user writes it."""
    return yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=100)


def start(folder: Path, config: dict[str, Any]) -> subprocess.Popen[str]:
    """The command of a user, in a process group of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(text_of(config))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "all"],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], begin: float) -> float:
    """Seconds since `begin` at its end, which has to be a good one."""
    output, _ = process.communicate()
    if process.returncode:
        sys.exit(output)
    return time.perf_counter() - begin


def digests(folder: Path, pattern: str) -> list[str]:
    """SHA-256 of files."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob(pattern)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("features", help="a folder of features, or their list")
    parser.add_argument("--pattern", default="{show}.h5")
    parser.add_argument("--components", type=int, nargs="+", default=[64, 128, 256])
    given = parser.parse_args()
    config = configuration(os.path.abspath(given.features), given.pattern, given.components)
    lines = len(text_of(config).splitlines())
    with tempfile.TemporaryDirectory(prefix="gmmcore-runs-") as place:
        alone: dict[str, str] = {}
        sums = {"seconds": 0.0, "shards": 0, "iterations": 0}
        for name, overrides in config["runs"].items():
            folder = Path(place, name)
            begin = time.perf_counter()
            seconds = finish(start(folder, {**config, "runs": {name: overrides}}), begin)
            (alone[name],) = digests(folder, f"results/{name}/ubm.h5")
            sums["seconds"] += seconds
            sums["shards"] += len(digests(folder, "results/features/*/*.npy"))
            sums["iterations"] += len(digests(folder, "results/*/*/*/[0-9]*.h5"))
            print(f"{name:>12} alone: {seconds:6.1f} s", flush=True)
        folder = Path(place, "together")
        begin = time.perf_counter()
        together = finish(start(folder, config), begin)
        folder = Path(place, "killed")
        begin = time.perf_counter()
        process = start(folder, config)
        time.sleep(together / 2)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        there = len(digests(folder, "results/*/ubm.h5"))
        again = finish(start(folder, config), time.perf_counter())
        made = len(set(digests(folder, "results/*/*/*/[0-9]*.h5")))
        same = [digests(folder, f"results/{name}/ubm.h5") == [alone[name]] for name in alone]
        shards = len(digests(folder, "results/features/*/*.npy"))
        print(f"configuration: {lines} lines, {len(alone)} trainings")
        print(f"alone, one after another: {sums['seconds']:.1f} s")
        print(f"by one command: {together:.1f} s")
        print(
            f"killed after {together / 2:.1f} s, when {there} were finished; again: {again:.1f} s"
        )
        print(f"shards: {shards} instead of {sums['shards']}")
        print(f"iterations: {made} instead of {sums['iterations']}, the others are copies")
        print(f"mixtures with the bytes of the training alone: {sum(same)} of {len(same)}")
        return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
