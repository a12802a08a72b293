"""The sums of a thousand pieces, 2,048 x 60 full, added by the ranks that start this program."""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from mpi4py import MPI

from gmmcore.core.summation import SumTree
from gmmcore.core.teams.base import Work
from gmmcore.core.teams.ranks import Ranks


class Drawn:
    """Stands for an E-step: what it costs is small, and its sums are as large as real ones."""

    def __init__(self, count: int, size: int) -> None:
        self.pieces = [(index, index + 1) for index in range(count)]
        self.size = size
        self.source: Any = None
        self.has_statistics = True

    def tree(self, threads: int, bounds: tuple[int, int], count: object) -> SumTree:
        """Add the sums of the pieces within bounds."""
        tree = SumTree(len(self.pieces))
        for piece in range(*bounds):
            tree.add((0, piece), self.sums(piece))
        return tree

    def sums(self, piece: int) -> npt.NDArray[np.float64]:
        """Draw numbers of very different sizes, so that any other order has other bits."""
        values = np.random.default_rng(piece).random(self.size)
        values *= 10.0 ** (piece % 7)
        return values


def main(count: int, size: int) -> None:
    """Print seconds, peak megabytes of the largest rank, and a digest of the total."""
    comm = MPI.COMM_WORLD
    ranks = Ranks(comm, lambda _: (Work(lambda _: None, "single", 0.0), ""))  # type: ignore[arg-type, return-value]
    ranks._begin(None)
    comm.barrier()
    clock = time.perf_counter()
    total = ranks._sums(0, Drawn(count, size)).total  # type: ignore[arg-type]
    comm.barrier()
    seconds = time.perf_counter() - clock
    peaks = comm.gather(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    if total is not None and peaks:
        digest = hashlib.sha256(total.tobytes()).hexdigest()
        found = {"seconds": seconds, "largest": max(peaks), "together": sum(peaks)}
        print(json.dumps({**found, "digest": digest[:16]}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
