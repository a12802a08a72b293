"""Make the next mixture from the statistics of all shards.

Example: gmmcore maximise --mixture 1.h5 --corpus corpus.json --statistics 0.stats.h5 --output 2.h5
"""

from __future__ import annotations

import argparse
import operator
from functools import partial, reduce
from math import nan

from gmmcore.cli.verbs._common import (
    add_maximising,
    check_held_out,
    course_of,
    e_steps_of,
    entries_of_stage,
    explained,
    held_out_of,
    load_of_corpus,
    next_level,
    warn_of_few_frames,
)
from gmmcore.config.options import options_of
from gmmcore.config.steps import IterationSettings
from gmmcore.workflow.iteration import save_iteration

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
    from gmmcore.core.mstep import maximise
    from gmmcore.data.corpus import Corpus
    from gmmcore.formats.statistics import StatisticsFacts, read_statistics
    from gmmcore.workflow.provenance import settings_digest
    from gmmcore.workflow.resume import is_iteration

    settings = options_of(arguments, IterationSettings)
    corpus = Corpus.read(arguments.corpus)
    model = load_of_corpus(arguments, corpus)
    course = course_of(arguments, model, corpus)
    level, held_out = next_level(arguments, model, course), held_out_of(arguments)
    if is_iteration(arguments.output, model.digest, settings, level, held_out):
        return
    warn_of_few_frames(model, corpus)
    check_held_out(arguments, model)
    steps = e_steps_of(arguments, corpus)
    with explained(arguments.mixture):
        sums = steps.sums(model.mixture)
        digest = settings_digest("accumulate", settings)
        found, files = read_statistics(
            arguments.statistics,
            StatisticsFacts(model.digest, corpus.digest, level, digest, arguments.device),
            len(steps.parts(level)),
            sums.size,
        )
        total = sums.statistics(
            reduce(operator.iadd, found), sum(part.frames for part in steps.parts(level))
        )
        entry, update = next(
            iterations(
                model.mixture,
                lambda *_: total,
                partial(maximise, settings=settings, threads=arguments.threads),
                course.after,
                history=entries_of_stage(model),
                held_out=steps.held_out,
                reached=model.facts.get("held_out", nan),
            )
        )
    save_iteration(
        arguments.output,
        model,
        entry,
        update,
        settings,
        course,
        held_out,
        device=files[0].get("gpu"),
    )
