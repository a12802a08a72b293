"""check the feature list and deal its shows to shards"""

from __future__ import annotations

import argparse
from pathlib import Path

from gmmcore.features.checking import check_list
from gmmcore.features.configuration import read_settings
from gmmcore.features.faults import fault_table
from gmmcore.files import replace_text

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--config", required=True, help="the configuration, complete, as JSON")
    parser.add_argument(
        "--output",
        required=True,
        help="shows.tsv to write; skipped.tsv, the shows left out, is written beside it",
    )


def run(arguments: argparse.Namespace) -> None:
    """Check the list, and write the table of its shows."""
    output = Path(arguments.output)
    checked = check_list(read_settings(arguments.config))
    replace_text(output.parent / "skipped.tsv", fault_table(checked.faults))
    checked.table.write(output)
    facts = checked.table.facts
    print(
        f"{facts['shows']} shows, {facts['frames']} frames, {facts['shards']} shards, "
        f"dimension {facts['dimension']}, {facts['skipped']} shows skipped"
    )
