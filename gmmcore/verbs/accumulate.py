"""Compute sufficient statistics of a part of the shards under a mixture.

Example: gmmcore accumulate --mixture 1.h5 --corpus corpus.json --part 0 --parts 4 --output 0.h5
"""

from __future__ import annotations

import argparse

from gmmcore.errors import GmmcoreError
from gmmcore.options import options_of
from gmmcore.steps import IterationSettings
from gmmcore.verbs._common import (
    add_maximising,
    course_of,
    next_level,
    statistics_of_shards,
)

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--part", type=int, default=0, help="which part of the shards, from 0")
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument(
        "--unless", help="the next mixture: where it is there already, no statistics are taken"
    )
    parser.add_argument("--output", required=True)
    add_maximising(parser, "what the statistics are taken with")


def run(arguments: argparse.Namespace) -> None:
    """Write the statistics of each shard of the part.

    If the next mixture exists already, the file has no statistics.
    """
    from gmmcore.corpus.corpus import Corpus
    from gmmcore.corpus.shards import Shard
    from gmmcore.formats.hdf5 import load_model
    from gmmcore.formats.statistics_file import save_statistics
    from gmmcore.processor import in_use
    from gmmcore.provenance import settings_digest
    from gmmcore.resume import is_iteration

    settings = options_of(arguments, IterationSettings)
    model = load_model(arguments.mixture)
    corpus = Corpus.read(arguments.corpus)
    course = course_of(arguments, model, corpus)
    level = next_level(arguments, model, course)
    paths = corpus.paths(arguments.corpus)
    part, parts = arguments.part, arguments.parts
    if not 0 <= part < parts:
        raise GmmcoreError(f"--part {part}: 0 to {parts - 1} were expected")
    if arguments.unless and is_iteration(arguments.unless, model.digest, settings, level, course):
        paths = []
    # The parts are contiguous and as equal as possible.
    chosen = paths[round(part * len(paths) / parts) : round((part + 1) * len(paths) / parts)]
    shards = map(Shard, chosen)
    found = statistics_of_shards(model.mixture, shards, level, settings, arguments.threads)
    save_statistics(
        arguments.output,
        list(found),
        mixture=model.digest,
        level=level,
        settings=settings_digest("accumulate", settings),
        arithmetic=in_use(settings.processor),
    )
