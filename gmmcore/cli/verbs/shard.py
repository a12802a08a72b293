"""Process the shows of one shard, or of several, and pack their frames.

Example: gmmcore shard --list features --shows shows.tsv --shard 000 --output 000.npy
"""

from __future__ import annotations

import argparse

from gmmcore.config.features import FeaturePart
from gmmcore.config.options import add_options, options_of
from gmmcore.data.identity import shard_paths
from gmmcore.data.packing import pack_shard
from gmmcore.errors import counted

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--shows", required=True, help="the table that `gmmcore shows` wrote")
    parser.add_argument(
        "--shard",
        required=True,
        nargs="+",
        help="name of the shard, or of several, as in the table",
    )
    parser.add_argument(
        "--output",
        required=True,
        help="shard file to write, that of the last; others lie beside it",
    )
    add_options(parser, FeaturePart)


def run(arguments: argparse.Namespace) -> None:
    """Process the shows of each shard and write its file, unless a valid one exists."""
    settings = options_of(arguments, FeaturePart).for_run(None)
    files = {**shard_paths(arguments.shows), arguments.shard[-1]: arguments.output}
    for shard in arguments.shard:
        output = files.get(shard, arguments.output)  # An unknown shard is refused.
        facts, written = pack_shard(settings, arguments.shows, shard, output)
        if not written:
            print(f"shard {shard}: verified")
            continue
        faults = f", {len(facts['faults'])} faulty" if facts["faults"] else ""
        print(
            f"shard {shard}: {counted(facts['shows'], 'show')}, "
            f"{counted(facts['frames'], 'frame')}{faults}",
            flush=True,
        )
