"""Where a run is: what is done, whether a job is at work, and what is to come.

The functions here only read. Files may appear while they do: each is whole, and the iterations of a
stage are looked at in their order.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from gmmcore.core.schedule import Stage, place_of
from gmmcore.data.corpus import Corpus
from gmmcore.data.table import ShowTable
from gmmcore.errors import GmmcoreError, counted
from gmmcore.files import holder
from gmmcore.formats.hdf5 import Model, load_model
from gmmcore.workflow.forecast import FrameCounts, forecast
from gmmcore.workflow.progress import duration
from gmmcore.workflow.resume import mixture_path, stale, walk_iterations
from gmmcore.workflow.speed import log_of, measure, time_of
from gmmcore.workflow.verified import sealed_state

if TYPE_CHECKING:
    from gmmcore.workflow.runs import Run

__all__ = ["status_lines"]

_ATTEMPTS = 3


@dataclass
class _Place:
    """How far the stages of a run are.

    `stage` is the one that goes on, after `model`; None if all have ended. `fault` says why what is
    there of it cannot be used, `begun` whether its first mixture is there, and `holder` which job
    works there.
    """

    stage: Stage | None
    model: Model | None = None
    path: str = ""
    done: int = 0
    begun: bool = True
    fault: str = ""
    holder: str | None = None


def status_lines(run: Run, results: str, cores: int) -> Iterator[str]:
    """Describe where a run is.

    Parameters
    ----------
    run : Run
    results
        The folder that the workflow writes to, such as ``results``.
    cores : int
        Number of cores that the estimates of time are for; measured times correct them.

    Raises
    ------
    GmmcoreError
        If a file cannot be read, though it is not one that the workflow makes again.
    """
    folder = f"{results}/{run.name}"
    try:
        corpus, held_out = _corpora(run, results)
    except GmmcoreError:
        yield f"{folder}: not begun: {_packed(f'{results}/features/{run.corpus}')}"
        yield from _of_end(results, f"features/{run.corpus}/shows")
        return
    counts = FrameCounts.of_corpus(corpus, held_out)
    place = _place(run, folder, corpus, held_out)
    if place.stage is None:
        names = ["ubm.h5", "SHA256SUMS", *run.products, *run.pages]
        missing = [name for name in names if not time_of(f"{folder}/{name}")]
        final, _ = sealed_state(f"{folder}/ubm.h5")
        if not missing and place.model and final.get("parent") == place.model.digest:
            yield f"{folder}: finished: {folder}/ubm.h5"
        else:
            still = ", ".join(missing or names)
            yield f"{folder}: all stages are done; still to be written: {still}"
    else:
        number = run.plan.index(place.stage) + 1
        yield (
            f"{folder}: {place.stage.name} (stage {number} of {len(run.plan)}), iteration "
            f"{place.done} of at most {place.stage.iterations} is done"
        )
    if place.model is not None and place.model.history:
        yield from _of_likelihood(place.model)
    if place.stage is not None:
        yield from _of_work(run, results, place)
        yield from _of_rest(run, results, place, counts, cores)
    if place.model is not None:
        yield from _of_components(place.model)
    if corpus.skipped:
        skipped = f"{results}/features/{run.corpus}/skipped.tsv"
        yield f"  skipped: {counted(corpus.skipped, 'show')}, see {skipped}"


def _corpora(run: Run, results: str) -> tuple[Corpus, Corpus | None]:
    """Read the frames to train on, and those that are held out."""
    found = [Corpus.read(f"{results}/features/{name}/corpus.json") for name in run.corpora]
    return found[0], found[1] if len(found) > 1 else None


def _packed(folder: str) -> str:
    """Say how far the frames are."""
    try:
        shards = int(ShowTable.read(f"{folder}/shows.tsv").facts["shards"])
    except GmmcoreError:
        return "the feature list is not checked yet"
    done = sum(1 for path in Path(folder).glob("*.npy") if not path.name.startswith("."))
    return f"{min(done, shards)} of {counted(shards, 'shard')} of frames are packed"


def _place(run: Run, folder: str, corpus: Corpus, held_out: Corpus | None) -> _Place:
    """Find out how far the stages are; look again if a job began or ended meanwhile."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(GmmcoreError):  # A file may be removed to be made again.
            place = _look(run, folder, corpus, held_out)
            if place.stage is None:
                return place
            place.holder = holder(f"{folder}/{place.stage.name}")
            after = _look(run, folder, corpus, held_out)
            if (after.stage, after.done) == (place.stage, place.done):
                return place
    return _look(run, folder, corpus, held_out)


def _look(run: Run, folder: str, corpus: Corpus, held_out: Corpus | None) -> _Place:
    """Follow the stages as long as they are complete."""
    parent, newest = None, ""
    place = _Place(None)
    for stage in run.plan:
        beside = f"{folder}/{stage.name}"
        first = mixture_path(beside, 0)
        facts, fault = sealed_state(first)
        fault = fault or stale(facts, 0, run.digest_of_first(stage), corpus.digest, parent)
        if fault:
            begun = os.path.lexists(first)
            place = _Place(stage, begun=begun, fault=f"{first}: {fault}" if begun else "")
            break
        walk = walk_iterations(
            beside,
            facts["digest"],
            corpus.digest,
            run.digest("maximise", stage.kind),
            run.course(stage, corpus, held_out),
        )
        parent, newest = walk.digest, mixture_path(beside, walk.last)
        if not walk.complete:
            path = mixture_path(beside, walk.last + 1)
            fault = f"{path}: {walk.fault}" if walk.fault else ""
            place = _Place(stage, done=walk.last, fault=fault)
            break
    if newest:
        place.path, place.model = newest, load_model(newest)
    return place


def _of_likelihood(model: Model) -> Iterator[str]:
    entry = model.history[-1]
    line = f"  log-likelihood/frame {entry.log_likelihood:.6f}"
    if not isnan(entry.gain):
        line += f"  gain {entry.gain:+.6f}"
    if not isnan(entry.held_out):
        line += f"  held-out {entry.held_out:.6f}"
    yield f"{line}  ({entry.stage}/{entry.components}, iteration {entry.iteration})"


def _of_work(run: Run, results: str, place: _Place) -> Iterator[str]:
    """Say whether a job is at work, when the last file was written, and how the last job ended."""
    assert place.stage is not None
    written = time_of(place.path)
    ago = f"; the last mixture was written {duration(time.time() - written)} ago" if written else ""
    if place.holder is not None:
        yield f"  at work: process {place.holder or 'of another machine'}{ago}"
        return
    if run.settings.jobs != "auto":
        yield f"  at work: not known with jobs: {run.settings.jobs}{ago}"
    elif not place.begun:
        yield f"  at work: not known; its first mixture is not made yet{ago}"
    else:
        yield f"  at work: no job{ago}"
    if place.fault:
        yield f"  made again: {place.fault}"
    yield from _of_end(results, f"{run.name}/{place.stage.name}")


def _of_end(results: str, job: str) -> Iterator[str]:
    """Say why a job ended, if its log says it."""
    lines = [line for line in log_of(results, job).splitlines() if line.startswith("gmmcore ")]
    yield from (f"  the last job: {line}" for line in lines[-1:])


def _of_rest(
    run: Run, results: str, place: _Place, counts: FrameCounts, cores: int
) -> Iterator[str]:
    """Say how many iterations are to come, at most, and how long they take."""
    assert place.stage is not None
    further = run.plan[run.plan.index(place.stage) + 1 :]
    model = place.model
    start = place_of(model.facts) if model and place.done else (0, 0, None, "plain")
    rest = [forecast(run, place.stage, counts, cores, start)]
    rest += [forecast(run, stage, counts, cores) for stage in further]
    line = f"  to come: {counted(len(rest[0].frames), 'iteration')} of this stage at most"
    if further:
        more = sum(len(one.frames) for one in rest[1:])
        line += f", and {more} of {counted(len(further), 'further stage')}"
    speed = measure(run, results, model.history if model else (), counts, cores)
    seconds = [speed.predict(estimate) for one in rest for estimate in one.seconds]
    total = sum(seconds) + len(further) * median(speed.between or [0.0])
    written = time_of(place.path)
    if place.holder is not None and seconds and written:
        total -= min(seconds[0], max(time.time() - written, 0.0))  # It is in this iteration.
    count = len(speed.ratios) + len(speed.extra)
    how = f"by the pace of {counted(count, 'iteration')}" if count else "not measured yet"
    yield f"{line}; {duration(total)} at most ({how})"


def _of_components(model: Model) -> Iterator[str]:
    """Say which components have few frames."""
    left, wanted = model.mixture.components, model.facts["components"]
    if left < wanted:
        yield f"  components: {left} are left of {wanted}"
    entry = model.history[-1] if model.history else None
    if entry is not None and entry.low_count:
        yield (
            f"  low count: {counted(entry.low_count, 'component')}, the smallest of "
            f"{entry.smallest_occupancy:.1f} frames ({entry.action}); "
            "train fewer components or bring more shows"
        )
