"""What two processors of the machine gain at all: two processes, with half of the frames each."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection

from benchmarks.speeds.data import Frames
from benchmarks.speeds.peers import ours
from gmmcore.model import GaussianMixture

__all__ = ["gain_of_two"]


def gain_of_two(mixture: GaussianMixture, frames: Frames, pruning: float, rounds: int) -> float:
    """How much faster two processes are that share the frames than one that has them all.

    They share nothing else: what is missing to 2 is the machine's (memory, power, neighbours).
    """
    context = multiprocessing.get_context("spawn")
    half = len(frames) // 2
    ends, processes = [], []
    for part in (frames, frames[:half], frames[half:]):
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, mixture, part, pruning), daemon=True)
        process.start()
        there.close()  # so that a process that ends early is noticed
        ends.append(here)
        processes.append(process)
    best = [float("inf")] * 2
    for _ in range(rounds + 1):  # the first waits for the processes to start
        for which, asked in enumerate((ends[:1], ends[1:])):
            clock = time.perf_counter()
            for end in asked:
                end.send(True)
            for end in asked:
                end.recv()
            best[which] = min(best[which], time.perf_counter() - clock)
    for end, process in zip(ends, processes, strict=True):
        end.send(False)
        process.join()
    return best[0] / best[1]


def _serve(end: Connection, mixture: GaussianMixture, frames: Frames, pruning: float) -> None:
    work = ours(mixture, frames, 1, pruning)
    while end.recv():
        work()
        end.send(True)
