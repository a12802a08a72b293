"""Run EM iterations to the end of a stage, each with its own file.

Example: gmmcore iterate --mixture 0.h5 --corpus c.json --iterations 8 --final --output 64.h5
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from math import nan
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from gmmcore.cli.verbs._common import (
    add_maximising,
    check_held_out,
    course_of,
    e_steps_of,
    entries_of_stage,
    explained,
    gpu_of,
    held_out_of,
    load_of_corpus,
    warn_of_few_frames,
)
from gmmcore.config.options import options_of
from gmmcore.config.steps import IterationSettings
from gmmcore.workflow.iteration import progress_line, save_iteration

if TYPE_CHECKING:
    from gmmcore.workflow.resume import Walk

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--twin", default=None, help="the same stage of another run, whose iterations are copied"
    )
    parser.add_argument("--output", required=True, help="the stage's last mixture")
    add_maximising(parser, "first mixture of the stage; iterations are written beside it")


def run(arguments: argparse.Namespace) -> None:
    """Make the missing iterations of a stage; valid files are kept.

    The file of each iteration is complete before the next iteration begins. If another process
    works in the stage's folder, such as one left by a killed Snakemake, this one waits for it.
    """
    from gmmcore.files import holding, read_bytes, replace_bytes
    from gmmcore.workflow.resume import mixture_path, superseded

    folder = Path(arguments.mixture).parent
    with holding(folder):
        last = _last_iteration(arguments, folder)
        for path in superseded(folder, last):
            path.unlink(missing_ok=True)
        replace_bytes(arguments.output, read_bytes(mixture_path(folder, last)))


def _can_copy(twin: Path, done: Walk, there: Walk, arguments: argparse.Namespace) -> bool:
    """Whether the iterations of a twin go on from those done, and are of the device asked for."""
    from gmmcore.workflow.resume import mixture_path
    from gmmcore.workflow.verified import sealed_state

    if there.last <= done.last:
        return False
    first = sealed_state(mixture_path(twin, done.last))[0]
    return done.last == 0 or first["digest"] == done.digest


def _last_iteration(
    arguments: argparse.Namespace,
    folder: Path,
) -> int:
    """Continue after the last valid iteration; return the number of the stage's last one."""
    from gmmcore.core.em import iterations
    from gmmcore.core.mstep import maximise
    from gmmcore.data.corpus import Corpus
    from gmmcore.files import read_bytes, replace_bytes
    from gmmcore.formats.hdf5 import load_model
    from gmmcore.workflow.provenance import settings_digest
    from gmmcore.workflow.resume import mixture_path, walk_iterations
    from gmmcore.workflow.timing import Stopwatch

    settings = options_of(arguments, IterationSettings)
    corpus = Corpus.read(arguments.corpus)
    first = load_of_corpus(arguments, corpus)
    course, held_out = course_of(arguments, first, corpus), held_out_of(arguments)

    def walk(place: str | Path) -> Walk:
        return walk_iterations(
            place,
            first.digest,
            corpus,
            held_out,
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
    steps = e_steps_of(arguments, corpus)
    name = folder.absolute().parents[1].name
    stage = f"{course.stage.kind} {course.stage.components:>5}"
    with (
        explained(source),
        # Logs have no such line: it goes to the terminal itself.
        progress_line(
            sys.__stderr__, lambda: f"{name}  {stage}  iteration {last + 1:>2}"
        ) as steps.report,
    ):
        start = perf_counter()
        gpu = gpu_of(arguments)
        for entry, update in iterations(
            model.mixture,
            steps.statistics,
            partial(maximise, settings=settings, threads=arguments.threads),
            course.after,
            history=entries_of_stage(model),
            held_out=steps.held_out,
            reached=model.facts.get("held_out", nan),
        ):
            model = save_iteration(
                mixture_path(folder, entry.iteration),
                model,
                entry,
                update,
                settings,
                course,
                held_out,
                perf_counter() - start,
                gpu,
            )
            last, start = entry.iteration, perf_counter()
    print(f"{name}  {course.stage.name}: {watch.stop(last - done.last).line()}", flush=True)
    return last
