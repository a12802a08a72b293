"""Run EM iterations to the end of a stage, each with its own file.

Example: gmmcore iterate --mixture 0.h5 --corpus c.json --iterations 8 --final --output 64.h5
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from math import nan
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

from gmmcore.cli.verbs._common import (
    add_maximising,
    check_held_out,
    course_of,
    device_of,
    entries_of_stage,
    explained,
    load_of_corpus,
    note_device,
    warn_of_few_frames,
    work_of,
)
from gmmcore.config.options import options_of
from gmmcore.config.steps import IterationSettings
from gmmcore.workflow.iteration import progress_line, save_iteration

if TYPE_CHECKING:
    from gmmcore.core.schedule import Course
    from gmmcore.core.teams.base import Team, Work
    from gmmcore.data.corpus import Corpus
    from gmmcore.formats.hdf5 import Model
    from gmmcore.workflow.resume import Walk

    TeamOf: TypeAlias = Callable[[Corpus, Model, Course, str | None], AbstractContextManager[Team]]

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--twin", default=None, help="the same stage of another run, whose iterations are copied"
    )
    parser.add_argument(
        "--ranks", type=int, default=1, help="of MPI, all started with the same arguments"
    )
    parser.add_argument("--output", required=True, help="the stage's last mixture")
    add_maximising(parser, "first mixture of the stage; iterations are written beside it")


def run(arguments: argparse.Namespace) -> None:
    """Make the missing iterations of a stage; valid files are kept.

    The file of each iteration is complete before the next iteration begins. If another process
    works in the stage's folder, such as one left by a killed Snakemake, this one waits for it.
    """
    if arguments.ranks == 1:
        _make(arguments, partial(_local_team, arguments))
        return
    from gmmcore.core.gpu.device import words_of
    from gmmcore.core.processor import in_use
    from gmmcore.core.teams.ranks import Ranks, world

    def begin(value: tuple[Corpus, str | None]) -> tuple[Work, tuple[str, str | None]]:
        corpus, device = value
        arithmetic = in_use(options_of(arguments, IterationSettings).processor)
        place, share = ranks.here
        work = work_of(arguments, corpus, share=share, device=device, place=place)
        return work, (arithmetic, words_of(device, work.precision))

    ranks = Ranks(world(arguments.ranks), begin, arguments.threads)
    if not ranks.leads:
        ranks.serve()
        return
    with closing(ranks):
        _make(arguments, lambda corpus, _, __, device: nullcontext(ranks.begin((corpus, device))))


def _make(arguments: argparse.Namespace, team_of: TeamOf) -> None:
    """Make the missing iterations with a team, which is asked for if any is missing."""
    from gmmcore.files import holding, read_bytes, replace_bytes
    from gmmcore.workflow.resume import mixture_path, superseded

    folder = Path(arguments.mixture).parent
    with holding(folder):
        last = _last_iteration(arguments, folder, team_of)
        for path in superseded(folder, last):
            path.unlink(missing_ok=True)
        replace_bytes(arguments.output, read_bytes(mixture_path(folder, last)))


def _local_team(
    arguments: argparse.Namespace, corpus: Corpus, model: Model, course: Course, device: str | None
) -> AbstractContextManager[Team]:
    """Make the team of a stage on this machine."""
    from gmmcore.core.teams.choice import local_team

    work = work_of(arguments, corpus, is_shared=arguments.threads > 1, device=device)
    return local_team(work, model.mixture, course.lowest, arguments.threads)


def _can_copy(twin: Path, done: Walk, there: Walk, arguments: argparse.Namespace) -> bool:
    """Whether the iterations of a twin go on from those done, and are of the device asked for."""
    from gmmcore.core.gpu.choice import kind_of
    from gmmcore.workflow.resume import mixture_path
    from gmmcore.workflow.verified import sealed_state

    if there.last <= done.last:
        return False
    numbers = range(done.last, there.last + 1)
    first, *others = (sealed_state(mixture_path(twin, number))[0] for number in numbers)
    return (done.last == 0 or first["digest"] == done.digest) and all(
        arguments.device in (None, "auto", kind_of(facts.get("device"))) for facts in others
    )


def _last_iteration(
    arguments: argparse.Namespace,
    folder: Path,
    team_of: TeamOf,
) -> int:
    """Continue after the last valid iteration; return the number of the stage's last one."""
    from gmmcore.core.em import iterations
    from gmmcore.core.gpu.choice import one_of
    from gmmcore.core.gpu.device import words_of
    from gmmcore.core.processor import in_use, warn_of_others
    from gmmcore.data.corpus import Corpus
    from gmmcore.files import read_bytes, replace_bytes
    from gmmcore.formats.hdf5 import load_model
    from gmmcore.workflow.provenance import settings_digest
    from gmmcore.workflow.resume import mixture_path, walk_iterations
    from gmmcore.workflow.timing import Stopwatch

    settings = options_of(arguments, IterationSettings)
    corpus = Corpus.read(arguments.corpus)
    first = load_of_corpus(arguments, corpus)
    course = course_of(arguments, first, corpus)

    def walk(place: str | Path) -> Walk:
        return walk_iterations(
            place,
            first.digest,
            corpus.digest,
            settings_digest("maximise", settings),
            course,
        )

    done = walk(folder)
    if arguments.twin is not None:
        twin = Path(arguments.twin).with_suffix("")
        there = walk(twin)
        if _can_copy(twin, done, there, arguments):
            print(
                f"{folder.absolute().parents[1].name}  {course.stage.name}: iterations "
                f"{done.last + 1} to {there.last} are those of {twin}, "
                "which has the same features and settings"
            )
            for iteration in range(done.last + 1, there.last + 1):
                copied = read_bytes(mixture_path(twin, iteration))
                replace_bytes(mixture_path(folder, iteration), copied)
            done = walk(folder)
    if done.complete:
        return done.last
    watch = Stopwatch()
    last, source = done.last, mixture_path(folder, done.last)
    model = load_model(source) if last else first
    warn_of_few_frames(model, corpus)
    check_held_out(arguments, model)
    device = device_of(arguments, model, corpus, course)
    name = folder.absolute().parents[1].name
    stage = f"{course.stage.kind} {course.stage.components:>5}"
    with (
        explained(source),
        team_of(corpus, model, course, device) as team,
        # Logs have no such line: it goes to the terminal itself.
        progress_line(
            sys.__stderr__, lambda: f"{name}  {stage}  iteration {last + 1:>2}"
        ) as team.report,
    ):
        start = perf_counter()
        arithmetic = warn_of_others("the ranks", team.arithmetic, in_use(settings.processor))
        warn_of_others(source, [model.facts.get("arithmetic")], arithmetic)
        computed_by = one_of(team.devices) or words_of(device, settings.precision)
        noted = note_device(computed_by, model)
        for entry, update in iterations(
            model.mixture,
            team.statistics,
            course,
            settings,
            previous=entries_of_stage(model),
            update_of=team.maximise,
            held_out=team.held_out if arguments.held_out else None,
            reached=model.facts.get("held_out", nan),
        ):
            model = save_iteration(
                mixture_path(folder, entry.iteration),
                model,
                entry,
                update,
                settings,
                arithmetic,
                course,
                perf_counter() - start,
                *noted,
            )
            last, start = entry.iteration, perf_counter()
    print(f"{name}  {course.stage.name}: {watch.stop(last - done.last).line()}", flush=True)
    return last
