"""What the benchmarks share: clocks, tables, and frames and mixtures to measure on."""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.core.estep import accumulate
from gmmcore.core.frames import ArraySource
from gmmcore.core.initial import one_gaussian, split
from gmmcore.core.kinds import to_kind
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.mstep import maximise
from gmmcore.core.settings import FullMStep, MStep
from gmmcore.core.train import moments

ROOT = Path(__file__).resolve().parents[1]
# The defaults of the configuration.
PRECISION, PRUNING = "single", 2e-8
DIMENSION = 60
_LONG = 10.0

Frames = npt.NDArray[np.float32]
Work = Callable[[], object]


@dataclass(frozen=True)
class Seconds:
    """Wall time, and CPU time of all threads, which leaves out what other programs took."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.3f} ({self.cpu:.3f})"


def measure(contenders: dict[str, Work], rounds: int) -> dict[str, Seconds]:
    """Return the best of `rounds` runs of each, in turn, so that all meet the same disturbances.

    A contender that takes long is run once: disturbances even out within a run.
    """
    best: dict[str, Seconds] = {}
    for _ in range(rounds):
        for name, work in contenders.items():
            if name in best and best[name].wall > _LONG:
                continue
            wall, cpu = time.perf_counter(), cpu_seconds()
            work()
            wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
            before = best.get(name, Seconds(wall, cpu))
            best[name] = Seconds(min(wall, before.wall), min(cpu, before.cpu))
    return best


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    used = (resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def cpu_name() -> str:
    """Return the name of the CPU."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def table(head: list[str], rows: list[list[str]]) -> str:
    """Write a table in Markdown, its columns lined up."""
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(head), rule, *map(line, rows)])


def clusters(frames: int, dimension: int = DIMENSION, seed: int = 0) -> Frames:
    """Draw from 512 well separated Gaussians in random order: sharp posteriors."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((512, dimension))
    deviations = np.exp(0.3 * rng.standard_normal((512, dimension)))
    of = rng.integers(0, 512, frames)
    return (centres[of] + deviations[of] * rng.standard_normal((frames, dimension))).astype("f")


def mixtures(frames: Frames, sizes: tuple[int, ...], *, full: bool) -> dict[int, GaussianMixture]:
    """Train mixtures on the frames by splitting, a few iterations each."""
    mixture = one_gaussian(moments(ArraySource(frames)))
    found = {}
    while mixture.components < max(sizes):
        mixture = split(mixture)
        for _ in range(3):
            mixture = improved(mixture, frames)[0]
        if mixture.components in sizes:
            found[mixture.components] = mixture
    if full:
        found = {size: improved(to_kind(one, "full"), frames)[0] for size, one in found.items()}
    return found


def improved(
    mixture: GaussianMixture, frames: Any, pruning: float = PRUNING, threads: int = 1
) -> tuple[GaussianMixture, float]:
    """Return the mixture after an EM iteration, and the log-likelihood per frame before it."""
    found = accumulate(mixture, frames, precision=PRECISION, pruning=pruning, threads=threads)
    settings = FullMStep() if mixture.is_full else MStep()
    update = maximise(mixture, found, settings, threads=threads)
    return update.mixture, found.log_likelihood_per_frame
