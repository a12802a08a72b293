"""What a training tells of its progress: the pace of an iteration, and a line on a terminal."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import TextIO

__all__ = ["ProgressLine", "duration", "pace", "progress_line", "seconds_of_iterations"]

# An iteration that takes less has no line, and one that takes longer has a new one as often.
_PATIENCE = 2.0
_PERIOD = 0.5
_LINE = re.compile(r"  iteration +(\d+) .*  ([\d.]+) s  \d+ frames/s")


def pace(frames: int, seconds: float) -> str:
    """Say how long an iteration took, and how many frames it read per second.

    Examples
    --------
    >>> from gmmcore.workflow.progress import pace
    >>> pace(120_000, 1.5)
    '1.50 s  80000 frames/s'
    """
    return f"{seconds:.2f} s  {frames / max(seconds, 1e-9):.0f} frames/s"


def seconds_of_iterations(log: str) -> dict[int, float]:
    """Find how long the iterations of a stage took, by their number, in the log of its job."""
    return {int(number): float(seconds) for number, seconds in _LINE.findall(log)}


def duration(seconds: float) -> str:
    """Write a duration in one or two units.

    Examples
    --------
    >>> from gmmcore.workflow.progress import duration
    >>> [duration(seconds) for seconds in (0.3, 59.6, 600, 8000, 200_000)]
    ['less than 1 s', '1 min', '10 min', '2 h 13 min', '2 d 7 h']
    """
    if seconds < 1:
        return "less than 1 s"
    minutes = round(seconds / 60)
    if seconds < 59.5:
        return f"{round(seconds)} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h" + f" {minutes} min" * (minutes > 0)
    days, hours = divmod(hours, 24)
    return f"{days} d" + f" {hours} h" * (hours > 0)


class ProgressLine:
    """Line on a terminal that says how much of its frames an iteration has read.

    The cursor is left at the beginning of the line: whatever comes next is written over it, also
    by another job on the same terminal.

    Parameters
    ----------
    stream : TextIO
        The terminal.
    label : callable
        Function that returns what the line begins with.
    clock : callable
        Function that returns the time in seconds.
    """

    def __init__(
        self,
        stream: TextIO,
        label: Callable[[], str],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._stream, self._label, self._clock = stream, label, clock
        self._start = self._due = clock()
        self._shown = False

    def __call__(self, done: int, frames: int) -> None:
        """Take note that so many frames, of all that are read, are done."""
        now = self._clock()
        if not done:
            self._start, self._due = now, now + _PATIENCE
        elif done < frames and now >= self._due:
            self._due, self._shown = now + _PERIOD, True
            left = duration((now - self._start) * (frames - done) / done)
            self._write(f"{self._label()}  {100 * done // frames} %  {left} left")
        elif done >= frames:
            self.clear()

    def clear(self) -> None:
        """Remove the line."""
        if self._shown:
            self._shown = False
            self._write("")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # The terminal may be gone.
            width = os.get_terminal_size(self._stream.fileno()).columns or 80
            self._stream.write(f"\r{text[: width - 1]}\x1b[K\r")
            self._stream.flush()


@contextlib.contextmanager
def progress_line(stream: TextIO | None, label: Callable[[], str]) -> Iterator[ProgressLine | None]:
    """Make a `ProgressLine`, which is removed at the end; None if the stream is no terminal."""
    if stream is None or not stream.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    line = ProgressLine(stream, label)
    try:
        yield line
    finally:
        line.clear()
