"""Make the next mixture from the statistics of all shards.

Example: gmmcore maximise --mixture 1.h5 --corpus corpus.json --statistics 0.stats.h5 --output 2.h5
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from math import nan
from typing import TYPE_CHECKING, TypeAlias

from gmmcore.cli.verbs._common import (
    add_maximising,
    check_held_out,
    course_of,
    entries_of_stage,
    explained,
    load_of_corpus,
    next_level,
    note_device,
    warn_of_few_frames,
    work_of,
)
from gmmcore.config.options import options_of
from gmmcore.config.steps import IterationSettings
from gmmcore.errors import GmmcoreError
from gmmcore.workflow.iteration import save_iteration

if TYPE_CHECKING:
    from collections.abc import Callable

    from gmmcore.core.estep import Expectation
    from gmmcore.core.mixture import GaussianMixture

    HeldOut: TypeAlias = Callable[[GaussianMixture, int], tuple[float, int]]

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--statistics", nargs="+", required=True, help="of all shards")
    parser.add_argument("--output", required=True)
    add_maximising(parser, "what the statistics were taken with")


def run(arguments: argparse.Namespace) -> None:
    """Write the next mixture, and print the line of the iteration in the training log.

    If the mixture exists already, it is kept, and the statistics are not read.
    """
    from gmmcore.core.em import iterations
    from gmmcore.core.gpu.choice import kind_of, lacking
    from gmmcore.core.mstep import maximise
    from gmmcore.core.processor import in_use, warn_of_others
    from gmmcore.core.teams.threads import Threads
    from gmmcore.data.corpus import Corpus
    from gmmcore.formats.statistics_file import StatisticsFacts, join_statistics
    from gmmcore.workflow.provenance import settings_digest
    from gmmcore.workflow.resume import is_iteration

    settings = options_of(arguments, IterationSettings)
    corpus = Corpus.read(arguments.corpus)
    model = load_of_corpus(arguments, corpus)
    course = course_of(arguments, model, corpus)
    level = next_level(arguments, model, course)
    if is_iteration(arguments.output, model.digest, settings, level, course):
        return
    warn_of_few_frames(model, corpus)
    check_held_out(arguments, model)
    work = work_of(arguments, corpus)
    now = in_use(settings.processor)
    warn_of_others(arguments.mixture, [model.facts.get("arithmetic")], now)

    def expectation_of(choice: tuple[bool, bool], device: str | None) -> Expectation:
        return replace(work, device=kind_of(device)).expectation(model.mixture, level, choice)

    def held_out_of(device: str | None) -> HeldOut:
        kind = kind_of(device)
        if kind != "cpu" and (reason := lacking()) is not None:
            raise GmmcoreError(
                f"device: {device} made the statistics, and is to score the held-out frames; "
                f"{reason}, or set device: cpu"
            )
        used = work_of(arguments, corpus, device=kind)
        return Threads(used, arguments.threads).held_out

    with explained(arguments.mixture):
        digest = settings_digest("accumulate", settings)
        total, makers, device = join_statistics(
            arguments.statistics,
            StatisticsFacts(model.digest, corpus.digest, level, digest),
            expectation_of,
        )
        arithmetic = warn_of_others(arguments.statistics[0], makers, now)
        entry, update = next(
            iterations(
                model.mixture,
                lambda *_: total,
                course,
                settings,
                previous=entries_of_stage(model),
                update_of=partial(maximise, threads=arguments.threads),
                held_out=held_out_of(device) if arguments.held_out else None,
                reached=model.facts.get("held_out", nan),
            )
        )
    computed_by, chosen = note_device(device, model)
    save_iteration(
        arguments.output,
        model,
        entry,
        update,
        settings,
        arithmetic,
        course,
        device=computed_by,
        chosen=chosen,
    )
