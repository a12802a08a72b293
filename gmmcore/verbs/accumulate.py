"""Sufficient statistics of one or more shards under a mixture."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gmmcore.errors import GmmcoreError
from gmmcore.verbs.common import (
    ACCUMULATE_DEFAULTS,
    accumulate_digest,
    add_settings,
    open_shards,
    reading_frames,
    settings_of,
)

if TYPE_CHECKING:
    from gmmcore.formats.statistics_file import ShardStatistics
    from gmmcore.model import GaussianMixture

__all__ = ["configure", "run", "statistics_of_shards"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--mixture", required=True)
    parser.add_argument("--shards", nargs="+", required=True, help="in the order of the run's")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", required=True)
    add_settings(parser, ", ".join(ACCUMULATE_DEFAULTS))


def run(arguments: argparse.Namespace) -> None:
    """Write the statistics of each shard."""
    from gmmcore.formats.hdf5 import load_model
    from gmmcore.formats.statistics_file import save_statistics

    settings = settings_of(arguments, ACCUMULATE_DEFAULTS)
    model = load_model(arguments.mixture)
    save_statistics(
        arguments.output,
        list(statistics_of_shards(model.mixture, arguments.shards, settings, arguments.threads)),
        mixture=model.digest,
        settings=accumulate_digest(settings),
    )


def statistics_of_shards(
    mixture: GaussianMixture, paths: Sequence[str], settings: Mapping[str, Any], threads: int
) -> Iterator[ShardStatistics]:
    """The statistics of each shard, one after the other."""
    from gmmcore.formats.statistics_file import ShardStatistics
    from gmmcore.statistics import accumulate

    for shard in open_shards(paths):
        if shard.dimension != mixture.dimension:
            raise GmmcoreError(
                f"{shard.path}: has dimension {shard.dimension}, "
                f"the mixture has {mixture.dimension}"
            )
        with reading_frames(shard.path):
            statistics = accumulate(
                mixture,
                shard,
                precision=settings["precision"],
                pruning=settings["pruning"],
                threads=threads,
            )
        yield ShardStatistics(shard.facts["shard"], shard.content, statistics, shard.path)
