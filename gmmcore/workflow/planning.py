"""The plan of a run as text: what its stages read, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from gmmcore.core.gpu.choice import lacking
from gmmcore.data.corpus import Corpus
from gmmcore.data.table import ShowTable
from gmmcore.errors import GmmcoreError, counted
from gmmcore.workflow.forecast import FrameCounts, forecast
from gmmcore.workflow.progress import duration

if TYPE_CHECKING:
    from gmmcore.workflow.runs import Run

__all__ = ["plan_lines"]

_ROW = "{:<12}{:>11}  {:<36}{:>14}{:>12}"


def plan_lines(
    run: Run, results: str, cores: int, given: tuple[int, int] | None = None
) -> Iterator[str]:
    """Describe what a run will do, before it starts.

    Parameters
    ----------
    run : Run
    results
        The folder that the workflow writes to, such as ``results``; the frames may be there.
    cores : int
        Number of cores that make a stage.
    given : (int, int), optional
        Number of frames and their dimension, where no frames are packed yet.
    """
    counts, source = _counts(run, results, given)
    yield f"{run.name}: {source}"
    yield _ROW.format("stage", "iterations", "frames of each", "time", "memory")
    total, most, iterations = 0.0, 0, 0
    for stage in run.plan:
        if counts is None:
            iterations += stage.iterations
            yield _ROW.format(stage.name, stage.iterations, "?", "?", "?").rstrip()
            continue
        cost = forecast(run, stage, counts, cores)
        seconds = sum(cost.seconds)
        total, most = total + seconds, max(most, cost.megabytes)
        iterations += len(cost.frames)
        time = duration(seconds) if cost.frames else "-"
        memory = f"{cost.megabytes} MB" if cost.frames else "-"
        yield _ROW.format(stage.name, len(cost.frames), _grouped(cost.frames), time, memory)
    if (wanted := run.settings.device) != "cpu" and (reason := lacking()) is None:
        yield "Times are those of the processor; a graphics processor is here for the long stages."
    elif wanted == "cuda":
        yield f"device: cuda was asked for; {reason}"
    line = f"in all: {counted(iterations, 'iteration')} at most"
    if counts is None:
        yield f"{line}; their time is not known without the number of frames"
        return
    yield f"{line}, on {counted(cores, 'core')}: {duration(total)}, {most} MB"
    yield "Features, divisions and the start of jobs come on top."


def _counts(
    run: Run, results: str, given: tuple[int, int] | None
) -> tuple[FrameCounts | None, str]:
    """Return how many frames there are, and how that is known; None if it is not."""
    folders = [f"{results}/features/{name}" for name in run.corpora]
    try:
        found = [Corpus.read(f"{folder}/corpus.json") for folder in folders]
        counts = FrameCounts.of_corpus(*found)
        outside = f", and {counts.held_out[0]} held out" if counts.held_out else ""
        shards = counted(len(found[0].shards), "shard")
        return counts, (
            f"{counts.frames} frames of dimension {counts.dimension} in {shards}{outside} "
            f"({folders[0]}/corpus.json)"
        )
    except GmmcoreError:
        pass
    share = run.settings.held_out.share
    if given is not None:
        counts = FrameCounts.of_number(*given, share)
        return counts, f"{given[0]} frames of dimension {given[1]}, as given; {_shards(run)}"
    try:
        facts = ShowTable.read(f"{folders[0]}/shows.tsv").facts
        counts = FrameCounts.of_number(facts["frames"], facts["dimension"])
        return counts, (
            f"{counts.frames} frames of dimension {counts.dimension} in "
            f"{counted(int(facts['shards']), 'shard')}, or fewer once they are selected "
            f"({folders[0]}/shows.tsv)"
        )
    except GmmcoreError:
        return None, (
            f"the number of frames is not known, because {folders[0]}/shows.tsv is not made yet; "
            f"give --frames N --dimension D; {_shards(run)}"
        )


def _shards(run: Run) -> str:
    shards = run.features.shards
    return "shards: auto" if shards == "auto" else counted(int(shards), "shard")


def _grouped(frames: Sequence[int]) -> str:
    """Write equal numbers that follow each other once.

    Examples
    --------
    >>> from gmmcore.workflow.planning import _grouped
    >>> _grouped([100, 100, 800])
    '2 x 100, 1 x 800'
    """
    return ", ".join(f"{len([*same])} x {number}" for number, same in groupby(frames)) or "-"
