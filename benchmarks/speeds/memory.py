"""Peak memory of one process that accumulates: ``python -m benchmarks.speeds.memory C D F T``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["peak"]


def peak(components: int, dimension: int, frames: int, threads: int) -> float:
    """MiB that a process of its own has used at most."""
    numbers = [str(number) for number in (components, dimension, frames, threads)]
    command = [sys.executable, "-m", "benchmarks.speeds.memory", *numbers]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def _accumulate(components: int, dimension: int, frames: int, threads: int) -> None:
    import numpy as np

    from benchmarks.speeds.data import Repeated
    from gmmcore.core.estep import accumulate
    from gmmcore.core.mixture import GaussianMixture

    rng = np.random.default_rng(0)
    mixture = GaussianMixture.from_covariances(
        np.full(components, 1 / components),
        2 * rng.standard_normal((components, dimension)),
        np.ones((components, dimension)),
    )
    some = rng.standard_normal((50_000, dimension), dtype=np.float32)
    accumulate(mixture, Repeated(some, frames), precision="single", pruning=2e-8, threads=threads)
    # Not ru_maxrss: a process that was just forked begins with its parent's.
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            print(int(line.split()[1]) / 1024)


if __name__ == "__main__":
    _accumulate(*map(int, sys.argv[1:]))
