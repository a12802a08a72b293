"""Iterations on a GPU, beside one core: ``python -m benchmarks.gpu``.

Run on a machine with a GPU and ``pip install 'jax[cuda12]'``; prints a table in Markdown, a row as
soon as it is measured. ``--quick`` runs everything, small; with ``JAX_PLATFORMS=cpu`` the CPU does
what a GPU would, and no number says anything.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common import (
    DIMENSION,
    PRECISION,
    PRUNING,
    Frames,
    clusters,
    cpu_name,
    improved,
    measure,
    mixtures,
)
from gmmcore.core.estep import ESteps, accumulate
from gmmcore.core.gpu import gpu_name
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.mstep import maximise
from gmmcore.core.settings import FullMStep, MStep

# Frames, components, and whether covariances are full.
CASES = (
    (1_000_000, 64, False),
    (1_000_000, 512, False),
    (10_000_000, 2048, False),
    (1_000_000, 128, True),
    (1_000_000, 512, True),
)
QUICK = ((4000, 16, False), (4000, 8, True))
# One core iterates on so many frames, and its time is multiplied.
ONE_CORE = 50_000
COLUMNS = (
    *("iteration", "first, s", "s", "frames copied, s", "products, TFLOP/s"),
    *("one core, s", "times one core", "off double, per frame", "same bits"),
)


class Repeated:
    """A source of many frames that takes no memory: an array over and over."""

    def __init__(self, values: Frames, frames: int) -> None:
        self._values = values
        self.frames = frames
        self.dimension = values.shape[1]

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Frames `start` to `stop`, a view where they do not run over the end."""
        first = start % len(self._values)
        if first + stop - start <= len(self._values):
            return self._values[first : first + stop - start]
        return self._values[np.arange(start, stop) % len(self._values)]


def main() -> None:
    """Run the benchmark; see the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    given = parser.parse_args()
    cases = QUICK if given.quick else CASES
    frames = clusters(min(1_000_000, max(count for count, _, _ in cases)))
    with tempfile.TemporaryDirectory() as cache:
        # Nothing that was compiled before is used again.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
        print(f"{gpu_name()}, beside one core of {cpu_name()}\n")
        print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
        for count, components, full in cases:
            some = frames[:ONE_CORE]
            mixture = mixtures(some, (components,), full=full)[components]
            cells = row(mixture, Repeated(frames, count), some)
            print(f"| {' | '.join(cells)} |", flush=True)


def row(mixture: GaussianMixture, source: Repeated, some: Frames) -> list[str]:
    """Measure a case, and return its cells."""
    settings = FullMStep() if mixture.is_full else MStep()
    kept = e_steps(source)

    def iterate(steps: ESteps) -> None:
        maximise(mixture, steps.statistics(mixture, 0), settings, threads=os.cpu_count() or 1)

    start = time.perf_counter()
    iterate(kept)
    first = time.perf_counter() - start
    taken = measure(
        # E-steps that did not see the frames before have to copy them.
        {"kept": lambda: iterate(kept), "copied": lambda: iterate(e_steps(source))},
        5,
    )
    core = measure({"core": lambda: improved(mixture, some)}, 2)["core"].cpu
    core *= source.frames / len(some)
    seconds = taken["kept"].wall
    width = 1 + DIMENSION + (DIMENSION * (DIMENSION + 1) // 2 if mixture.is_full else DIMENSION)
    operations = 4.0 * source.frames * mixture.components * width
    exact = accumulate(mixture, some)
    found = [accumulate(mixture, some, precision=PRECISION, device="cuda") for _ in range(2)]
    kind = "full" if mixture.is_full else "diagonal"
    return [
        f"{mixture.components} {kind}, {source.frames:,} x {DIMENSION}",
        f"{first:.2f}",
        f"{seconds:.4f}",
        f"{taken['copied'].wall:.4f}",
        f"{operations / seconds / 1e12:.1f}",
        f"{core:.1f}",
        f"{core / seconds:.0f}",
        f"{found[0].log_likelihood_per_frame - exact.log_likelihood_per_frame:.1e}",
        "yes" if np.array_equal(found[0].second, found[1].second) else "**no**",
    ]


def e_steps(source: Repeated) -> ESteps:
    """Make E-steps on the GPU, which keep the frames there."""
    return ESteps(lambda level: source, precision=PRECISION, pruning=PRUNING, device="cuda")


if __name__ == "__main__":
    main()
