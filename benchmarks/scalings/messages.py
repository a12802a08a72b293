"""Two ranks that send sums to and fro; `benchmarks.scalings.measured.message` starts them."""

from __future__ import annotations

import json
import time

import numpy as np
from mpi4py import MPI

SIZE = 4_000_000
ROUNDS = 20


def main() -> None:
    """Print what `Message` holds."""
    comm = MPI.COMM_WORLD
    seconds = []
    for values in (np.zeros(1), np.zeros(SIZE)):
        best = np.inf
        for _ in range(ROUNDS):
            comm.barrier()
            clock = time.perf_counter()
            for sender in (0, 1):
                if comm.rank == sender:
                    comm.Send(values, 1 - sender)
                else:
                    comm.Recv(values, sender)
            best = min(best, (time.perf_counter() - clock) / 2)
        seconds.append(best)
    one, other = np.zeros(SIZE), np.ones(SIZE)
    addition = np.inf
    for _ in range(ROUNDS):
        clock = time.perf_counter()
        one += other
        addition = min(addition, time.perf_counter() - clock)
    latency, whole = seconds
    found = {
        "latency": latency,
        "bandwidth": 8 * SIZE / (whole - latency),
        "addition": 8 * SIZE / addition,
    }
    if comm.rank == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
