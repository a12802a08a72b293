"""Check the feature list and deal its shows to shards."""

from __future__ import annotations

import argparse

from gmmcore.features.checking import check_list
from gmmcore.features.configuration import read_settings

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--config", required=True, help="the configuration, complete, as JSON")
    parser.add_argument("--output", required=True, help="shows.tsv to write")


def run(arguments: argparse.Namespace) -> None:
    """Check the list, and write the table of its shows."""
    table = check_list(read_settings(arguments.config)).table
    table.write(arguments.output)
    facts = table.facts
    shards = "1 shard" if facts["shards"] == 1 else f"{facts['shards']} shards"
    print(
        f"{facts['shows']} shows, {facts['frames']} frames, {shards}, "
        f"dimension {facts['dimension']}, {len(facts['faults'])} shows skipped"
    )
