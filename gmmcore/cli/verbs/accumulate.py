"""Compute sufficient statistics of a part of the frames under a mixture.

Example: gmmcore accumulate --mixture 1.h5 --corpus corpus.json --part 0 --parts 4 --output 0.h5
"""

from __future__ import annotations

import argparse

from gmmcore.cli.verbs._common import (
    add_maximising,
    course_of,
    e_steps_of,
    explained,
    gpu_of,
    held_out_of,
    load_of_corpus,
    next_level,
)
from gmmcore.config.options import options_of
from gmmcore.config.steps import IterationSettings
from gmmcore.errors import GmmcoreError

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--part", type=int, default=0, help="which part of the frames, from 0")
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument(
        "--unless", help="the next mixture: where it is there already, no statistics are taken"
    )
    parser.add_argument("--output", required=True)
    add_maximising(parser, "what the statistics are taken with")


def run(arguments: argparse.Namespace) -> None:
    """Write the sums of the parts of the frames that are this job's.

    If the next mixture exists already, the file has none.
    """
    import numpy as np

    from gmmcore.data.corpus import Corpus
    from gmmcore.formats.statistics import StatisticsFacts, save_statistics
    from gmmcore.workflow.provenance import settings_digest
    from gmmcore.workflow.resume import is_iteration

    settings = options_of(arguments, IterationSettings)
    corpus = Corpus.read(arguments.corpus)
    model = load_of_corpus(arguments, corpus)
    course = course_of(arguments, model, corpus)
    level = next_level(arguments, model, course)
    part, parts = arguments.part, arguments.parts
    if not 0 <= part < parts:
        raise GmmcoreError(f"--part {part}: 0 to {parts - 1} were expected")
    found = {}
    if not arguments.unless or not is_iteration(
        arguments.unless, model.digest, settings, level, held_out_of(arguments)
    ):
        steps = e_steps_of(arguments, corpus, share=1 / parts)
        numbers = np.array_split(np.arange(len(steps.parts(level))), parts)[part].tolist()
        with explained(arguments.mixture):
            chosen = [steps.parts(level)[number] for number in numbers]
            sums = steps.map(model.mixture, chosen)(steps.sums(model.mixture).over, chosen)
            found = dict(zip(numbers, sums, strict=True))
    digest = settings_digest("accumulate", settings)
    save_statistics(
        arguments.output,
        found,
        StatisticsFacts(model.digest, corpus.digest, level, digest, arguments.device),
        gpu=gpu_of(arguments),
    )
