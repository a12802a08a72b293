"""process the shows of one shard and pack their frames"""

from __future__ import annotations

import argparse

from gmmcore.features.configuration import read_settings
from gmmcore.features.packing import pack_shard

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--config", required=True, help="the configuration, complete, as JSON")
    parser.add_argument("--shows", required=True, help="the table that `gmmcore shows` wrote")
    parser.add_argument("--shard", required=True, help="name of the shard, as in the table")
    parser.add_argument("--output", required=True, help="shard file to write")


def run(arguments: argparse.Namespace) -> None:
    """Process the shows of one shard and write its file."""
    settings = read_settings(arguments.config)
    facts = pack_shard(settings, arguments.shows, arguments.shard, arguments.output)
    print(
        f"shard {facts['shard']}: {facts['shows']} shows, {facts['frames']} frames, "
        f"{len(facts['faults'])} faults"
    )
