"""A checkout of gmmcore in a process of its own, which `benchmarks.speed` gives orders.

Only what old and new checkouts both have is used. An order is a line of JSON, and so is the answer.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


class Contender:
    """The parent's side: `ask` gives an order, and `answer` waits for the seconds that it took."""

    def __init__(self, checkout: Path, frames: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, checkout, frames],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **order: Any) -> None:
        """Give an order: the ``first`` and ``last`` frame, and for an E-step a ``mixture``.

        Without a mixture, one of 64 components is trained. The E-step may have ``workers``.
        """
        print(json.dumps(order), file=self._process.stdin, flush=True)

    def answer(self) -> float:
        """Return the seconds of the latest order."""
        assert self._process.stdout
        return float(self._process.stdout.readline())

    def take(self, **order: Any) -> float:
        """Give an order and return the seconds."""
        self.ask(**order)
        return self.answer()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def _serve(checkout: str, path: str) -> None:
    sys.path[0] = checkout
    import gmmcore

    assert gmmcore.__file__.startswith(checkout), f"{checkout}: no gmmcore is there"
    whole = np.load(path)
    for line in sys.stdin:
        order = json.loads(line)
        frames = whole[order["first"] : order["last"]]
        print(_train(frames) if "mixture" not in order else _e_step(frames, order), flush=True)


def _train(frames: Any) -> float:
    import gmmcore

    start = time.perf_counter()
    gmmcore.train(frames, components=64, threads=1)
    return time.perf_counter() - start


def _e_step(frames: Any, order: dict[str, Any]) -> float:
    import gmmcore

    with np.load(order["mixture"]) as file:
        mixture = gmmcore.GaussianMixture.from_covariances(*(file[key] for key in file))
    # What is computed once for a mixture is not counted.
    gmmcore.accumulate(mixture, frames[:100], precision="single", pruning=2e-8)
    start = time.perf_counter()
    if order.get("workers"):
        _with_workers(mixture, frames, order["workers"])
    else:
        gmmcore.accumulate(mixture, frames, precision="single", pruning=2e-8)
    return time.perf_counter() - start


def _with_workers(mixture: Any, frames: Any, workers: int) -> None:
    """Compute the E-step as the workflow does."""
    from gmmcore.core.estep import ESteps
    from gmmcore.core.frames import ArraySource
    from gmmcore.core.parallel import processes_map

    source = ArraySource(frames)
    steps = ESteps(
        lambda level: source,
        precision="single",
        pruning=2e-8,
        workers=workers,
        map_of=processes_map,
    )
    steps.statistics(mixture, 0)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
