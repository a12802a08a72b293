"""How fast a run is: what its iterations took, and what the next ones will."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from gmmcore.core.history import HistoryEntry
from gmmcore.workflow.forecast import FrameCounts, seconds_of_iteration
from gmmcore.workflow.progress import seconds_of_iterations
from gmmcore.workflow.resume import mixture_path

if TYPE_CHECKING:
    from gmmcore.workflow.runs import Run

__all__ = ["Speed", "log_of", "measure", "time_of"]

# Files that follow each other much faster than an iteration can be are copies of another run's.
_COPIED = 0.05
# An iteration that takes less by its estimate takes mostly what the estimate does not know of, such
# as reading the frames for the first time.
_LARGE = 0.5


@dataclass
class Speed:
    """Measured times.

    `ratios` are those of large iterations, relative to their estimate; `extra` is what small
    iterations take beyond it, and `between` what passes between two stages.
    """

    ratios: list[float] = field(default_factory=list)
    extra: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)

    def predict(self, estimate: float) -> float:
        """Predict the seconds of an iteration from their estimate."""
        if estimate < _LARGE:
            return max(estimate + median(self.extra or [0.0]), 0.0)
        return estimate * median(self.ratios or [1.0])


def measure(
    run: Run, results: str, history: Sequence[HistoryEntry], counts: FrameCounts, cores: int
) -> Speed:
    """Measure iterations by the logs of their jobs, or else by the times of their files.

    Parameters
    ----------
    run : Run
    results
        The folder that the workflow writes to.
    history : sequence of HistoryEntry
        Entries of the iterations.
    counts : FrameCounts
    cores : int
        Number of cores that the estimates are for.
    """
    speed = Speed()
    end: float | None = None
    for stage in run.plan:
        entries = [e for e in history if (e.stage, e.components) == (stage.kind, stage.components)]
        if not entries:
            continue
        told = seconds_of_iterations(log_of(results, f"{run.name}/{stage.name}"))
        place = f"{results}/{run.name}/{stage.name}"
        times = [time_of(mixture_path(place, number)) for number in range(len(entries) + 1)]
        ratios = []
        for entry in entries:
            estimate = seconds_of_iteration(stage, counts, entry.level, cores)
            before, after = times[entry.iteration - 1 : entry.iteration + 1]
            seconds = told.get(entry.iteration)
            if seconds is None:
                if before is None or after is None or after - before < _COPIED * estimate:
                    continue
                seconds = after - before
            if estimate < _LARGE:
                speed.extra.append(seconds - estimate)
            else:
                ratios.append(seconds / estimate)
        if end is not None and times[1] is not None and 1 in told:
            speed.between.append(max(times[1] - end - told[1], 0.0))
        end = times[-1]
        speed.ratios = ratios or speed.ratios  # The newest stage is the most like the next ones.
    return speed


def log_of(results: str, name: str) -> str:
    """Read the log of a job, such as ``demo/diag/64`` for a stage; empty if it is not there."""
    path = Path(os.path.dirname(results), "logs", f"{name}.log")
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def time_of(path: str) -> float | None:
    """Return when a file was written; None if it is not there."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None
