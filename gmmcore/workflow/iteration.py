"""Logging, checking and writing an iteration, for the verbs that make iterations."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from gmmcore.config.keys import IterationSettings
    from gmmcore.core.history import HistoryEntry
    from gmmcore.core.mstep import Update
    from gmmcore.core.schedule import Course
    from gmmcore.data.corpus import Corpus
    from gmmcore.formats.hdf5 import Model

# Largest relative decrease of a log-likelihood per frame that sums in double precision can cause.
_ROUNDING = 1e-12
# An iteration that takes less has no line on a terminal, and one that takes longer has a new one
# as often.
_PATIENCE, _PERIOD = 2.0, 0.5


def save_iteration(
    path: str,
    before: Model,
    entry: HistoryEntry,
    update: Update,
    settings: IterationSettings,
    course: Course,
    held_out: Corpus | None = None,
    seconds: float | None = None,
    device: str | None = None,
) -> Model:
    """Print the line of an iteration in the training log, and write its mixture.

    Parameters
    ----------
    path
        The file to write.
    before
        The mixture that the iteration started from.
    entry
        History entry of the iteration.
    update
        Result of its M-step.
    settings
        Settings of E-step and M-step.
    course
        Course of the stage.
    held_out
        The held-out frames, if there are any.
    seconds
        How long the iteration took; None if only a part of it is known.
    device
        As that of `gmmcore.workflow.provenance.provenance`.

    Returns
    -------
    Model
        The content of the file.
    """
    from gmmcore.formats.hdf5 import Model, save_model
    from gmmcore.workflow.provenance import provenance, settings_digest

    # The name of the run is that of a folder: results/<run>/<kind>/<components>/<iteration>.h5.
    name = Path(path).absolute().parents[2].name
    print(f"{name}  {log_line(entry, update, seconds)}", flush=True)
    previous = before.history[-1] if entry.iteration > 1 else None
    _look_at_decrease(entry, previous, settings, before)
    history = (*before.history, entry)
    _look_at_held_out(history, update, course)
    facts = provenance(
        stage=entry.stage,
        components=entry.components,
        iteration=entry.iteration,
        level=entry.level,
        parent=before.digest,
        corpus=before.facts["corpus"],
        settings=settings_digest("maximise", settings),
        device=device,
        log_likelihood=entry.log_likelihood,
        gain=None if math.isnan(entry.gain) else entry.gain,
        allowance=update.allowance,
    )
    if held_out is not None:
        facts |= {
            "held_out": update.held_out,
            "held_out_frames": held_out.digest,
        }
    digest = save_model(path, update.mixture, facts, history)
    return Model(update.mixture, facts, history, digest)


def log_line(entry: HistoryEntry, update: Update, seconds: float | None = None) -> str:
    """Return the line of an iteration in the training log."""
    gain = "" if math.isnan(entry.gain) else f"  gain {entry.gain:+.6f}"
    line = (
        f"{entry.stage} {entry.components:>5}  iteration {entry.iteration:>2}"
        f"  log-likelihood/frame {entry.log_likelihood:.6f}{gain}"
    )
    if entry.level:
        line += f"  on {entry.frames} frames"
    if not math.isnan(entry.held_out):
        line += f"  held-out {entry.held_out:.6f}"
    if seconds is not None:
        line += f"  {seconds:.2f} s  {entry.frames / max(seconds, 1e-9):.0f} frames/s"
    if entry.floored or entry.ceiled:
        line += f"  floored {entry.floored}  ceiled {entry.ceiled}"
    if update.low_count:
        shown = ", ".join(f"{index} ({count:.1f} frames)" for index, count in update.low_count[:5])
        more = f" and {len(update.low_count) - 5} more" if len(update.low_count) > 5 else ""
        line += f"  low count {len(update.low_count)}: {shown}{more}"
    return line


def _look_at_decrease(
    entry: HistoryEntry,
    previous: HistoryEntry | None,
    settings: IterationSettings,
    before: Model,
) -> None:
    """Warn if the log-likelihood fell by more than precision and shrinkage explain."""
    if previous is None or not entry.gain < -_ROUNDING * abs(entry.log_likelihood):
        return
    if previous.floored or previous.ceiled or previous.low_count:
        return  # The M-step before was constrained, so that a decrease is possible.
    from gmmcore.core.estep import lost_digits

    lost = lost_digits(before.mixture, settings.precision, settings.pruning)
    # EM raises the likelihood by at least as much as its lower bound, which the prior may lower.
    allowance = before.facts.get("allowance", 0.0)
    if entry.gain >= -lost - allowance - _ROUNDING * abs(entry.log_likelihood):
        return
    shrinkage = f", and the prior {allowance:.1g}" if allowance else ""
    print(
        f"warning: {entry.stage} {entry.components}, iteration {entry.iteration}: the "
        f"log-likelihood per frame fell by {-entry.gain:.3g} although nothing bounded the last "
        f"update, and rounding explains no more than {lost:.1g}{shrinkage}; try precision: double "
        "and pruning: 0",
        file=sys.stderr,
    )


def _look_at_held_out(history: Sequence[HistoryEntry], update: Update, course: Course) -> None:
    """Warn, once per stage, that the held-out log-likelihood falls and that of the training rises.

    A fall is one by more than ``llk_gain`` below the highest of the stage, on the same frames.
    """
    entry = history[-1]
    if entry.gain < 0:
        return
    highest: dict[int, float] = {}
    slack = max(course.llk_gain, 0.0)
    # What each iteration started from; the last one is what the update made.
    reached = [(e.level, e.held_out) for e in history[-entry.iteration :]]
    reached.append((entry.level, update.held_out))
    falls = []
    for level, value in reached:
        highest[level] = max(value, highest.get(level, value))
        falls.append(value < highest[level] - slack)
    if not falls[-1] or any(falls[:-1]):
        return
    gain = "" if math.isnan(entry.gain) else f", {entry.gain:+.4f} in this iteration"
    prior = ", raise full.prior" if update.mixture.is_full else ""
    print(
        f"warning: {entry.stage} {entry.components}, iteration {entry.iteration}: the held-out "
        f"log-likelihood per frame falls, from {highest[entry.level]:.4f} to "
        f"{update.held_out:.4f}, while that of the training frames rises "
        f"({entry.log_likelihood:.4f}{gain}): the mixture may fit these frames only; train fewer "
        f"components{prior} or bring more shows",
        file=sys.stderr,
    )


@contextlib.contextmanager
def progress_line(
    stream: TextIO | None, label: Callable[[], str], clock: Callable[[], float] = time.perf_counter
) -> Iterator[Callable[[int, int], None] | None]:
    """Make a function that shows on a terminal how many of its frames an iteration has read.

    The cursor is left at the beginning of the line, so that whatever comes next is written over
    it, also by another job. If the stream is no terminal, there is no such function.
    """
    if stream is None or not stream.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    start, due, shown = clock(), math.inf, False

    def write(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # The terminal may be gone.
            width = os.get_terminal_size(stream.fileno()).columns or 80
            stream.write(f"\r{text[: width - 1]}\x1b[K\r")
            stream.flush()

    def report(done: int, frames: int) -> None:
        nonlocal start, due, shown
        now = clock()
        if not done:
            start, due = now, now + _PATIENCE
        elif done < frames and now >= due:
            due, shown = now + _PERIOD, True
            left = duration((now - start) * (frames - done) / done)
            write(f"{label()}  {100 * done // frames} %  {left} left")
        elif done >= frames and shown:
            shown = False
            write("")

    try:
        yield report
    finally:
        if shown:
            write("")


def duration(seconds: float) -> str:
    """Write a duration in one or two units.

    Examples
    --------
    >>> from gmmcore.workflow.iteration import duration
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
