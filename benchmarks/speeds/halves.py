"""Two workers beside what two processors of the machine gain at all."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NamedTuple

from benchmarks.speeds.data import Frames
from benchmarks.speeds.peers import ours, team
from gmmcore.core.mixture import GaussianMixture

__all__ = ["Gains", "gains_of_two"]


class Gains(NamedTuple):
    """How much faster two are than one process that has all frames.

    Attributes
    ----------
    workers : float
        Of two workers of one team.
    halves : float
        Of two processes that share nothing and have half of the frames each: what is missing to 2
        is the machine's (memory, power, neighbours).
    """

    workers: float
    halves: float


def gains_of_two(mixture: GaussianMixture, frames: Frames, pruning: float, rounds: int) -> Gains:
    """Measure both in turn, so that all meet the same disturbances; the best of the rounds."""
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

    def asked(chosen: list[Connection]) -> Callable[[], object]:
        def work() -> None:
            for end in chosen:
                end.send(True)
            for end in chosen:
                end.recv()

        return work

    with team(frames, 2, pruning, mixture) as step:
        contenders = (asked(ends[:1]), asked(ends[1:]), lambda: step(mixture))
        best = [float("inf")] * len(contenders)
        for turn in range(rounds + 1):
            for which, work in enumerate(contenders):
                clock = time.perf_counter()
                work()
                if turn:  # The first waits for the processes to start.
                    best[which] = min(best[which], time.perf_counter() - clock)
    for end, process in zip(ends, processes, strict=True):
        end.send(False)
        process.join()
    one, halves, workers = best
    return Gains(one / workers, one / halves)


def _serve(end: Connection, mixture: GaussianMixture, frames: Frames, pruning: float) -> None:
    work = ours(mixture, frames, 1, pruning)
    while end.recv():
        work()
        end.send(True)
