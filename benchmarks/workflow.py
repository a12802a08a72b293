"""What the workflow costs, and what `gmmcore status` said before the first start.

    python -m benchmarks.workflow

Runs the demonstration, the same command again with nothing to do, and trainings on drawn frames,
one of them by `gmmcore.train` too. CPU seconds are those of a command and all of its children;
memory is that of the largest process. ``--quick`` runs everything, small: its numbers say nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.common import ROOT, cpu_name, table

_SNAKEMAKE = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile")]
_TRAIN = "import gmmcore; gmmcore.train('features', {components}, threads={threads})"
_UNITS = {"s": 1, "min": 60, "h": 3600}


@dataclass(frozen=True)
class Used:
    """What a command and its children took, and what it printed."""

    wall: float
    cpu: float
    megabytes: float
    text: str


def used(folder: Path, command: list[str]) -> Used:
    """Run a command in a folder, as in an environment that is activated."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - start
        output.seek(0)
        text = output.read()
    if child.returncode:
        sys.exit(text)
    return Used(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000, text)


def make_features(folder: Path, frames: int, dimension: int) -> None:
    """Write shows of 10,000 frames drawn from 256 components that overlap, as `.npy` files."""
    rng = np.random.default_rng(1)
    means = 2.0 * rng.standard_normal((256, dimension)).astype(np.float32)
    deviations = rng.uniform(0.5, 1.5, (256, dimension)).astype(np.float32)
    folder.mkdir(parents=True)
    for index, start in enumerate(range(0, frames, 10_000)):
        chosen = rng.integers(0, 256, min(10_000, frames - start))
        noise = rng.standard_normal((len(chosen), dimension), dtype=np.float32)
        np.save(folder / f"show{index:04d}.npy", means[chosen] + deviations[chosen] * noise)


def said(folder: Path, cores: int) -> tuple[float, float]:
    """Return the seconds and the megabytes that `gmmcore status` says are to come."""
    command = [sys.executable, "-m", "gmmcore.cli.main", "status", "--cores", str(cores)]
    found = re.search(r"to come: .* about (.*) and (\d+) MB", used(folder, command).text)
    assert found is not None
    parts = re.findall(r"(\d+) (s|min|h)", found[1])
    return sum(int(number) * _UNITS[unit] for number, unit in parts), float(found[2])


def main() -> None:
    """Run the benchmark; see the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    given = parser.parse_args()
    snakemake = [*_SNAKEMAKE, "--cores", str(given.cores)]
    demonstration: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())
    sizes = [(99_000, 40, 512, 0), (200_000, 60, 64, 0), (200_000, 60, 128, 8)]
    sizes.append((2_000_000, 60, 512, 0))
    if given.quick:
        demonstration |= {"components": 4, "demo": {"folder": "corpus", "shows": 10}}
        demonstration["report"] = False
        sizes = [(2000, 3, 4, 1)]
    cases = [("the demonstration", 0, 0, demonstration)]
    for frames, dimension, components, full in sizes:
        config = {
            "run": "cost",
            "components": components,
            "full": {"iterations": full},
            "features": {"list": "features", "pattern": "{show}.npy", "vad": None},
        }
        name = f"{frames:,} x {dimension} to {components}{' full' * bool(full)}"
        cases.append((name, frames, dimension, config))

    rows, train = [], None
    for name, frames, dimension, config in cases:
        with tempfile.TemporaryDirectory(prefix="gmmcore-") as place:
            folder = Path(place)
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
            if frames:
                make_features(folder / "features", frames, dimension)
            seconds, megabytes = said(folder, given.cores)
            found = used(folder, snakemake)
            rows.append(_row(name, found, seconds, megabytes))
            if not frames:
                rows.append(_row("the same again, nothing to do", used(folder, snakemake)))
            elif train is None:
                words = _TRAIN.format(components=config["components"], threads=given.cores)
                train = used(folder, [sys.executable, "-c", words])
                times = f"the workflow takes {found.cpu / train.cpu:.2f} times its CPU seconds"
                rows.append(_row(f"the same by `gmmcore.train`; {times}", train))
    print(f"{given.cores} cores, {cpu_name()}\n")
    head = ["", "CPU s", "wall s", "status said", "largest process MB", "status said"]
    print(table(head, rows))


def _row(name: str, found: Used, seconds: float = 0, megabytes: float = 0) -> list[str]:
    """Return a row of the table, with the ratios of what was said to what was measured."""
    return [
        name,
        f"{found.cpu:.1f}",
        f"{found.wall:.1f}",
        f"{seconds:.0f} ({seconds / found.wall:.2f})" if seconds else "",
        f"{found.megabytes:.0f}",
        f"{megabytes:.0f} ({megabytes / found.megabytes:.2f})" if megabytes else "",
    ]


if __name__ == "__main__":
    main()
