"""Times of contenders side by side, and the tables they go into."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ON_DEVICE", "Seconds", "measure", "processor", "table"]

ON_DEVICE = "## On a graphics processor"
"""Heading of the section of docs/performance.md that `benchmarks.device` writes, the last one."""

_LONG = 10.0


@dataclass(frozen=True)
class Seconds:
    """The best of several runs.

    Attributes
    ----------
    wall, processor : float
        Seconds; the processor's are summed over threads and leave out what other programs took.
    """

    wall: float
    processor: float


def measure(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, Seconds]:
    """The best of `rounds` runs of each, in turn, so that all meet the same disturbances.

    A contender that takes long is run once: disturbances even out within a run.
    """
    best: dict[str, Seconds] = {}
    for _ in range(rounds):
        for name, work in contenders.items():
            if name in best and best[name].wall > _LONG:
                continue
            # With the processes it starts.
            wall, processor_time = time.perf_counter(), _processor_time()
            work()
            wall = time.perf_counter() - wall
            processor_time = _processor_time() - processor_time
            before = best.get(name, Seconds(wall, processor_time))
            best[name] = Seconds(min(wall, before.wall), min(processor_time, before.processor))
    return best


def _processor_time() -> float:
    used = (resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def processor() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    import platform

    return platform.processor() or platform.machine()


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown, its columns lined up."""
    widths = [max(len(row[index]) for row in [head, *rows]) for index in range(len(head))]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(head), rule, *map(line, rows)])
