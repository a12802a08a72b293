"""How fast statistics of shows are, beside the E-step: ``python -m benchmarks.shows``.

One thread, single precision. Prints thousand frames per CPU second, and the ratio to the E-step on
the same frames with all components. ``--quick`` runs everything, small: its times say nothing.
"""

from __future__ import annotations

import argparse
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

from benchmarks.common import DIMENSION, PRECISION, clusters, mixtures, table
from benchmarks.common import cpu_seconds as now
from gmmcore.core.estep import accumulate
from gmmcore.core.shows import each_show

LENGTHS = (65, 250, 2900)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    frames = clusters(5800 if quick else 87_000)
    sizes = (64,) if quick else (64, 256, 512)
    rows = []
    for components, mixture in mixtures(frames, sizes, full=False).items():
        shows = {n: np.split(frames, range(n, len(frames), n)) for n in LENGTHS}
        spent: dict[int, list[float]] = {n: [] for n in (0, *LENGTHS)}
        for _ in range(1 if quick else 7):
            for length, times in spent.items():
                begin = now()
                if length:
                    given = ((str(i), show) for i, show in enumerate(shows[length]))
                    for _ in each_show(mixture, given, precision=PRECISION):
                        pass
                else:
                    accumulate(mixture, frames, precision=PRECISION)
                times.append(now() - begin)
        speed = {n: len(frames) / min(times) / 1000 for n, times in spent.items()}
        cells = [f"{speed[n]:.0f} ({speed[n] / speed[0]:.2f})" for n in LENGTHS]
        rows.append([f"{components} x {DIMENSION}", f"{speed[0]:.0f}", *cells])
    print(table(["components", "E-step", *(f"shows of {n} frames" for n in LENGTHS)], rows))


if __name__ == "__main__":
    main()
