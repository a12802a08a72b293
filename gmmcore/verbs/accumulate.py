"""Sufficient statistics of one or more shards under a mixture."""

from __future__ import annotations

import argparse

from gmmcore.errors import GmmcoreError
from gmmcore.verbs.common import add_settings, explained, frames_digest, open_shards, settings_of

__all__ = ["DEFAULTS", "configure", "run"]

DEFAULTS = {"precision": "single", "pruning": 0.0}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--mixture", required=True)
    parser.add_argument("--shards", nargs="+", required=True, help="in the order of the run's")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", required=True)
    add_settings(parser, ", ".join(DEFAULTS))


def run(arguments: argparse.Namespace) -> None:
    """Write the statistics of each shard."""
    from gmmcore.em import ARITHMETIC
    from gmmcore.files import digest_of
    from gmmcore.formats.hdf5 import load_model
    from gmmcore.formats.statistics_file import ShardStatistics, save_statistics
    from gmmcore.statistics import accumulate

    settings = settings_of(arguments, DEFAULTS)
    model = load_model(arguments.mixture)
    entries = []
    for shard in open_shards(arguments.shards):
        if shard.dimension != model.mixture.dimension:
            raise GmmcoreError(
                f"{shard.path}: has dimension {shard.dimension}, "
                f"the mixture {arguments.mixture} has {model.mixture.dimension}"
            )
        with explained(shard.path):
            statistics = accumulate(
                model.mixture,
                shard,
                precision=settings["precision"],
                pruning=settings["pruning"],
                threads=arguments.threads,
            )
        entries.append(ShardStatistics(shard.facts["shard"], frames_digest(shard), statistics))
    save_statistics(
        arguments.output,
        entries,
        mixture=model.digest,
        settings=digest_of("accumulate", settings, ARITHMETIC),
    )
