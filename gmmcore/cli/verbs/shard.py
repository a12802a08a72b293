"""Process the shows of one shard and pack their frames.

Example: gmmcore shard --list features --shows shows.tsv --shard 000 --output 000.npy
"""

from __future__ import annotations

import argparse

from gmmcore.config.features import FeaturePart
from gmmcore.config.options import add_options, options_of
from gmmcore.data.shards import pack_shard
from gmmcore.errors import counted

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--shows", required=True, help="the table that `gmmcore shows` wrote")
    parser.add_argument("--shard", required=True, help="name of the shard, as in the table")
    parser.add_argument("--output", required=True, help="shard file to write")
    add_options(parser, FeaturePart)


def run(arguments: argparse.Namespace) -> None:
    """Process the shows of a shard and write its file, unless a valid one exists."""
    settings = options_of(arguments, FeaturePart).for_run(None)
    facts, written = pack_shard(settings, arguments.shows, arguments.shard, arguments.output)
    if not written:
        print(f"shard {arguments.shard}: verified")
        return
    faults = f", {len(facts['faults'])} faulty" if facts["faults"] else ""
    print(
        f"shard {arguments.shard}: {counted(facts['shows'], 'show')}, "
        f"{counted(facts['frames'], 'frame')}{faults}"
    )
