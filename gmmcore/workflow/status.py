"""Where a run is: one table of what is done, what is to come, and what that takes.

The functions here only read. Files may appear while they do: each is whole, and the iterations of a
stage are looked at in their order.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gmmcore.config.options import mapping
from gmmcore.core.gpu import lacking
from gmmcore.core.history import HistoryEntry
from gmmcore.core.schedule import (
    FORK_SECONDS,
    LONG_SECONDS,
    Course,
    Stage,
    megabytes,
    place_of,
    seconds,
    useful_workers,
)
from gmmcore.data.check import estimate
from gmmcore.data.corpus import Corpus
from gmmcore.data.shows import ShowTable
from gmmcore.errors import GmmcoreError, counted
from gmmcore.files import holder, remembered
from gmmcore.formats.hdf5 import Model, load_model
from gmmcore.workflow.stage import (
    Look,
    Walk,
    duration,
    header_state,
    mixture_path,
    sealed_state,
    stale,
    walk_iterations,
)

if TYPE_CHECKING:
    from gmmcore.workflow.runs import Run

_ATTEMPTS = 3
_ROW = "  {:<11} {:>10}  {:<26} {:>9}  {:>14}  {}"
# The log-likelihood of held-out frames takes one of the two matrix products of an E-step.
_HELD_OUT_SHARE = 0.5

_read_corpus = remembered(Corpus.read)


class Frames(NamedTuple):
    """How many frames there are."""

    training: int
    dimension: int
    held_out: int = 0


# Seconds beside the E-steps, on a machine of 2025: the rest of an iteration, of which the file is
# most; a first mixture; features of a frame; and Snakemake with its jobs and the report.
_PER_ITERATION, _PER_FIRST, _PER_FRAME, _JOBS = 0.01, 0.15, 2e-6, 4.0
# The last stage usually ends before its limit, because an iteration gains little.
_SHARE_OF_LAST = 0.6
# Megabytes that a job asks a cluster for beyond what it is seen to need.
_SPARE = 320

# A corpus that is not made yet.
_UNKNOWN = Frames(10**9, 60)


class Cost(NamedTuple):
    """What the rest of a stage reads and needs, at most: the stage may end before its limit."""

    frames: list[int]
    seconds: float
    megabytes: int


class Needs(NamedTuple):
    """What a job asks a cluster for; what a stage has done by the end of its time is kept."""

    megabytes: int
    minutes: int


def cost(
    run: Run,
    stage: Stage,
    frames: Frames,
    cores: int,
    after: Mapping[str, Any] | None = None,
) -> Cost:
    """Estimate the iterations of a stage, or those that follow the mixture with these facts."""
    limits, dimension = mapping(run.settings.limits), frames.dimension
    course = Course.of(stage, frames=frames.training, dimension=dimension, **limits)
    size, is_full = (stage.components, dimension), stage.kind == "full"
    scored = 1 + _HELD_OUT_SHARE * frames.held_out / max(frames.training, 1)
    place = place_of(after or {"iteration": 0})
    read: list[int] = []
    total, workers = 0.0, 1
    while (level := course.next_level(*place)) is not None:
        place = place[0] + 1, level, None
        read.append(frames.training >> level)
        used = useful_workers(read[-1], *size, full=is_full, most=cores, least=FORK_SECONDS)
        total += scored * seconds(read[-1], *size, full=is_full) / used
        workers = max(workers, used)
    kept = min(max(read, default=0), run.settings.memory * 1_000_000 // (4 * dimension))
    return Cost(read, total, megabytes(*size, full=is_full, workers=workers, kept=kept))


def is_long(run: Run, stage: Stage) -> bool:
    """Whether a stage may take more than a minute on one core, whatever corpus there will be."""
    return cost(run, stage, _UNKNOWN, 1).seconds >= LONG_SECONDS


def needs(run: Run, stages: Sequence[Stage], prefix: str, threads: int) -> Needs:
    """Estimate what a job needs that makes stages, with results below `prefix`."""
    try:
        known = _read_corpus(f"{prefix}results/features/{run.corpus}/corpus.json")
        frames = Frames(known.frames, known.dimension)
    except GmmcoreError:
        frames = _UNKNOWN
    found = [cost(run, stage, frames, threads) for stage in stages]
    minutes = sum(10 + int(2 * one.seconds / 60) for one in found)
    return Needs(max(one.megabytes for one in found), minutes)


def following(run: Run, stage: Stage, results: str) -> int | None:
    """Return the number of the iteration that follows the valid ones, by the headers of files.

    It is None where the stage has ended, or a file cannot be read of which the next job says so.
    """
    facts, fault = header_state(mixture_path(f"{results}/{run.name}/{stage.name}", 0))
    corpora = _corpora(run, results)
    if fault or not corpora:
        return None
    walk = _walk(run, stage, results, facts["digest"], corpora, header_state)
    return None if walk.complete else walk.last + 1


def unfinished(run: Run, results: str, *, copies: bool = True) -> tuple[Stage, ...]:
    """Return the stages from the first one of which a file is missing or out of date.

    Without `copies`, last mixtures do not count that are copies of iterations that are there: a
    stage that was the final one may end earlier as the stage before a larger one. The headers of
    files decide: of files that are damaged inside, the jobs that read them tell.
    """
    corpora = _corpora(run, results)
    if not corpora:
        return run.plan
    for place, (stage, _, walk) in enumerate(_walks(run, results, corpora, header_state)):
        last, fault = header_state(f"{results}/{run.name}/{stage.name}.h5")
        is_copied = walk is not None and not fault and last["digest"] == walk.digest
        if walk is None or not walk.complete or (copies and not is_copied):
            return run.plan[place:]
    return ()


def is_written(run: Run, results: str) -> bool:
    """Whether the final mixture is that of the last stage, and its products are there."""
    folder = f"{results}/{run.name}"
    final, _ = header_state(f"{folder}/ubm.h5")
    last, fault = header_state(f"{folder}/{run.plan[-1].name}.h5")
    names = ["SHA256SUMS", *run.products, *run.pages]
    is_last = not fault and final.get("parent") == last["digest"]
    return is_last and all(os.path.exists(f"{folder}/{name}") for name in names)


def _walks(
    run: Run, results: str, corpora: Sequence[Corpus], look: Look
) -> Iterator[tuple[Stage, str, Walk | None]]:
    """Follow the stages until one is not complete: the fault of its first mixture, or its walk."""
    parent = None
    for stage in run.plan:
        facts, fault = look(mixture_path(f"{results}/{run.name}/{stage.name}", 0))
        wanted = run.digest_of_first(stage), corpora[0].digest, parent
        if fault := fault or stale(facts, 0, *wanted):
            yield stage, fault, None
            return
        walk = _walk(run, stage, results, facts["digest"], corpora, look)
        yield stage, "", walk
        if not walk.complete:
            return
        parent = walk.digest


def _walk(
    run: Run, stage: Stage, results: str, first: str, corpora: Sequence[Corpus], look: Look
) -> Walk:
    """Follow the iterations of a stage."""
    folder, settings = f"{results}/{run.name}/{stage.name}", run.digest("maximise", stage.kind)
    corpus, held_out = corpora[0], corpora[1] if len(corpora) > 1 else None
    course = run.course(stage, corpus)
    return walk_iterations(folder, first, corpus, held_out, settings, course, look)


def stage_seconds(logs: str | Path, stage: str) -> float | None:
    """Return the seconds that a stage such as ``diag/64`` took, if its job wrote them.

    They are those of the job that last worked on the stage.
    """
    try:
        return float(Path(logs, f"{stage}.seconds").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@dataclass
class _Found:
    """The valid iterations of a run: `done` are those of each stage, `model` is the newest mixture.

    `stage` is the one that goes on; None if all have ended. `fault` says why its next file cannot
    be used, `begun` whether its first mixture is there, and `holder` which job works there.
    """

    stage: Stage | None
    done: dict[Stage, int] = field(default_factory=dict)
    model: Model | None = None
    path: str = ""
    begun: bool = True
    fault: str = ""
    holder: str | None = None


def status_lines(
    run: Run, results: str, cores: int, given: tuple[int, int] | None = None
) -> Iterator[str]:
    """Describe a run in the folder `results`: where it is, its stages, and what to look at.

    `cores` are those that a stage is made with. `given` are a number of frames and their
    dimension: the lines then tell what a whole training on so many would take.
    """
    folder, corpora = f"{results}/{run.name}", [] if given else _corpora(run, results)
    frames, words = _frames(run, results, corpora, given)
    found = _found(run, results, corpora) if corpora else _Found(run.plan[0], begun=False)
    where = _where(run, results, found, packed=bool(corpora))
    yield f"{folder}: {'estimates of a whole training' if given else where}"
    count = f"{frames.training} of dimension {frames.dimension}" if frames else ""
    yield f"  frames: {count}{words}"
    yield from _table(run, results, found, frames, cores)
    if found.stage is not None:
        yield from _device(run)
        if corpora:
            yield from _work(run, results, found)
        elif given is None:
            for job in ("shows", "pack"):
                yield from _end(results, f"features/{run.corpus}/{job}")
    if found.model is not None:
        yield from _components(found.model)
    if corpora and corpora[0].skipped:
        table = f"{results}/features/{run.corpus}/skipped.tsv"
        yield f"  skipped: {counted(corpora[0].skipped, 'show')}, see {table}"


def _corpora(run: Run, results: str) -> list[Corpus]:
    """Read the frames to train on, and those that are held out; empty if any are not packed."""
    try:
        return [_read_corpus(f"{results}/features/{name}/corpus.json") for name in run.corpora]
    except GmmcoreError:
        return []


def _frames(
    run: Run, results: str, corpora: Sequence[Corpus], given: tuple[int, int] | None
) -> tuple[Frames | None, str]:
    """Return how many frames there are, if that is known, and how that is known."""
    if corpora and given is None:
        training, held_out = corpora[0], sum(corpus.frames for corpus in corpora[1:])
        words = f" in {counted(len(training.shards), 'shard')}"
        words += f", and {held_out} held out" if held_out else ""
        return Frames(training.frames, training.dimension, held_out), words
    if given is None and not os.path.exists(table := f"{results}/features/{run.corpus}/shows.tsv"):
        return _listed(run)
    if given is not None:
        held_out = round(run.settings.held_out.share * given[0])
        return Frames(given[0] - held_out, given[1], held_out), ", as given"
    try:
        facts = ShowTable.read(table).facts
    except GmmcoreError:
        return None, f"not known, because {table} cannot be read; give --frames N --dimension D"
    return Frames(facts["frames"], facts["dimension"]), ", or fewer once they are selected"


def _listed(run: Run) -> tuple[Frames | None, str]:
    """Estimate the frames of a feature list that is not checked yet."""
    demo = run.settings.demo
    try:
        if demo.folder and not os.path.exists(run.settings.features.list):
            count, dimension, words = demo.frames, demo.dimension, ", of the demonstration"
        else:
            count, dimension = estimate(run.settings.features.for_run(run.settings.seed))
            words = f", about, in {run.settings.features.list}; fewer once speech is selected"
        held_out = round(run.settings.held_out.share * count)
        if run.settings.held_out.list and run.held_out:
            held_out, _ = estimate(run.held_out)
            count += held_out
    except GmmcoreError as error:
        return None, f"not known: {error}; or give --frames N --dimension D"
    return Frames(count - held_out, dimension, held_out), words


def _found(run: Run, results: str, corpora: Sequence[Corpus]) -> _Found:
    """Follow the stages, and once more if a job began or ended meanwhile."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(GmmcoreError):  # A file may be removed to be made again.
            found = _look(run, results, corpora)
            if found.stage is None:
                return found
            found.holder = holder(f"{results}/{run.name}/{found.stage.name}")
            if _look(run, results, corpora).done == found.done:
                return found
    return _look(run, results, corpora)


def _look(run: Run, results: str, corpora: Sequence[Corpus]) -> _Found:
    """Follow the stages as long as they are complete."""
    found = _Found(None)
    for stage, fault, walk in _walks(run, results, corpora, sealed_state):
        path = partial(mixture_path, f"{results}/{run.name}/{stage.name}")
        if walk is None:
            found.stage, found.begun = stage, os.path.lexists(path(0))
            found.fault = f"{path(0)}: {fault}" if found.begun else ""
            break
        found.done[stage], found.path = walk.last, path(walk.last)
        if not walk.complete:
            found.stage = stage
            found.fault = f"{path(walk.last + 1)}: {walk.fault}" if walk.fault else ""
    if found.path:
        found.model = load_model(found.path)
    return found


def _where(run: Run, results: str, found: _Found, *, packed: bool) -> str:
    """Say which stage goes on, or what is to be written yet."""
    folder = f"{results}/{run.name}"
    if not packed:
        return f"not begun: {_packed(f'{results}/features/{run.corpus}')}"
    if (stage := found.stage) is not None:
        return (
            f"{stage.name} (stage {run.plan.index(stage) + 1} of {len(run.plan)}), iteration "
            f"{found.done.get(stage, 0)} of at most {stage.iterations} is done"
        )
    names = ["ubm.h5", "SHA256SUMS", *run.products, *run.scores, *run.pages]
    missing = [name for name in names if not os.path.exists(f"{folder}/{name}")]
    final, _ = sealed_state(f"{folder}/ubm.h5")
    if not missing and found.model and final.get("parent") == found.model.digest:
        return f"finished: {folder}/ubm.h5"
    return f"all stages are done; still to be written: {', '.join(missing or names)}"


def _packed(folder: str) -> str:
    """Say how far the frames are."""
    try:
        shards = int(ShowTable.read(f"{folder}/shows.tsv").facts["shards"])
    except GmmcoreError:
        return "the feature list is not checked yet"
    done = sum(1 for path in Path(folder).glob("*.npy") if not path.name.startswith("."))
    return f"{min(done, shards)} of {counted(shards, 'shard')} of frames are packed"


def _table(
    run: Run, results: str, found: _Found, frames: Frames | None, cores: int
) -> Iterator[str]:
    """Tell of each stage: measured seconds of what is done, and estimates of what is to come."""
    yield _ROW.format(
        "stage", "iterations", "frames of each", "memory", "time", "log-likelihood per frame"
    )
    history = found.model.history if found.model else ()
    logs = os.path.join(os.path.dirname(results), "logs", run.name)
    total, most, count = 0.0, 0, 0
    for stage in run.plan:
        entries = [e for e in history if (e.stage, e.components) == (stage.kind, stage.components)]
        read, memory, taken = [entry.frames for entry in entries], "-", "-"
        if stage in found.done and stage != found.stage:
            # With `jobs: N` many jobs make a stage, and the last one only finds that it is done.
            is_timed = entries and run.settings.jobs == "auto"
            measured = stage_seconds(logs, stage.name) if is_timed else None
            taken = "-" if measured is None else duration(measured)
        elif frames is None:
            memory, taken, count = "?", "?", count + stage.iterations
        else:
            last = found.model.facts if found.model and entries else None
            rest = cost(run, stage, frames, cores, last)
            read, count = [*read, *rest.frames], count + len(rest.frames)
            share = _SHARE_OF_LAST if stage.final else 1.0
            wanted = share * (rest.seconds + _PER_ITERATION * len(rest.frames))
            wanted += _PER_FIRST * (stage not in found.done)
            needed = rest.megabytes - _SPARE
            total, most = total + wanted, max(most, needed)
            if rest.frames:
                memory = f"{needed} MB"
                taken = f"~ {duration(max(wanted, 1))}"
        done, shown = f"{len(entries)}/{stage.iterations}", "?" if taken == "?" else _grouped(read)
        yield _ROW.format(stage.name, done, shown, memory, taken, _likelihood(entries))
    if count:
        total += _JOBS + (0 if found.done or not frames else sum(frames[::2]) * _PER_FRAME)
        known = (
            f", about {duration(total)} and {most} MB on {counted(cores, 'core')}, features, "
            "divisions and the start of jobs included"
        )
        yield f"  to come: {counted(count, 'iteration')} at most{known if frames else ''}"


def _likelihood(entries: Sequence[HistoryEntry]) -> str:
    if not entries:
        return "-"
    last = entries[-1]
    gain = "" if isnan(last.gain) else f"  gain {last.gain:+.6f}"
    held_out = "" if isnan(last.held_out) else f"  held-out {last.held_out:.6f}"
    return f"{last.log_likelihood:.6f}{gain}{held_out}"


def _grouped(frames: Sequence[int]) -> str:
    """Write equal numbers that follow each other once, as in ``2 x 100, 1 x 800``."""
    return ", ".join(f"{len([*same])} x {number}" for number, same in groupby(frames)) or "-"


def _device(run: Run) -> Iterator[str]:
    """Say that the estimates are those of the CPU, or that the GPU asked for is not there."""
    if run.settings.device != "cpu" and (reason := lacking()) is None:
        yield "  times are those of the CPU; a GPU is here for the long stages"
    elif run.settings.device == "cuda":
        yield f"  device: cuda was asked for; {reason}"


def _work(run: Run, results: str, found: _Found) -> Iterator[str]:
    """Say whether a job is at work, when the last file was written, and how the last job ended."""
    assert found.stage is not None
    ago = ""
    with contextlib.suppress(OSError):
        passed = time.time() - os.stat(found.path).st_mtime
        ago = f"; the last mixture was written {duration(passed)} ago"
    if found.holder is not None:
        yield f"  at work: process {found.holder or 'of another machine'}{ago}"
        return
    if run.settings.jobs != "auto":
        yield f"  at work: not known with jobs: {run.settings.jobs}{ago}"
    elif not found.begun:
        yield f"  at work: not known; its first mixture is not made yet{ago}"
    else:
        yield f"  at work: no job{ago}"
    if found.fault:
        yield f"  made again: {found.fault}"
    yield from _end(results, f"{run.name}/{found.stage.name}")


def _end(results: str, job: str) -> Iterator[str]:
    """Say why a job ended, if its log says it."""
    log = Path(os.path.dirname(results), "logs", f"{job}.log")
    with contextlib.suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        yield from [f"  the last job: {s}" for s in lines if s.startswith("gmmcore ")][-1:]


def _components(model: Model) -> Iterator[str]:
    """Say which components have few frames."""
    entry = model.history[-1] if model.history else None
    if entry is not None and entry.low_count:
        yield (
            f"  low count: {counted(entry.low_count, 'component')}, the smallest of "
            f"{entry.smallest_occupancy:.1f} frames; "
            "train fewer components or bring more shows"
        )
