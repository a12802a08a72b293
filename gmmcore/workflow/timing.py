"""Time and memory of the job that makes a stage, as a line of its log.

Snakemake's benchmarks are samples, which miss most of a job that takes less than a minute.
"""

from __future__ import annotations

import re
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from gmmcore.errors import counted

__all__ = ["StageTime", "Stopwatch", "stage_time"]


@dataclass(frozen=True)
class StageTime:
    """Time and memory of the job that last worked on a stage.

    Attributes
    ----------
    iterations : int
        Number of iterations that the job made; those it found or copied do not count.
    seconds, processor_seconds : float
        Elapsed time of these iterations, and processor time of all threads and worker processes.
    megabytes : float
        Largest resident memory of the process that wrote the log, in 10^6 bytes.
    """

    iterations: int
    seconds: float
    processor_seconds: float
    megabytes: float

    def line(self) -> str:
        """Return the line for the log, which `stage_time` reads."""
        return (
            f"{counted(self.iterations, 'iteration')} in {self.seconds:.3f} s, "
            f"{self.processor_seconds:.3f} processor seconds, {self.megabytes:.0f} MB"
        )


class Stopwatch:
    """Time since the object was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), _processor_seconds()

    def stop(self, iterations: int) -> StageTime:
        """Return the time since then, in which so many iterations were made."""
        seconds, processor = time.perf_counter(), _processor_seconds()
        # Linux counts kilobytes, macOS bytes.
        unit = 1 if sys.platform == "darwin" else 1024
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
        return StageTime(iterations, seconds - self._start[0], processor - self._start[1], memory)


def _processor_seconds() -> float:
    # Those of children that have ended, too.
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


_LINE = re.compile(
    r"(\d+) iterations? in ([\d.]+) s, ([\d.]+) processor seconds, (\d+) MB$", re.MULTILINE
)


def stage_time(log: Path) -> StageTime | None:
    """Read the time of a stage from the log of its job; None if the log does not tell it.

    Examples
    --------
    >>> from pathlib import Path
    >>> from gmmcore.workflow.timing import stage_time
    >>> stage_time(Path("no/such/stage.log"))
    """
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = _LINE.findall(text)
    if not found:
        return None
    count, seconds, processor, memory = found[-1]
    return StageTime(int(count), float(seconds), float(processor), float(memory))
