"""Check the feature list and deal its shows to shards.

Example: gmmcore shows --list features --pattern {show}.h5 --normalisation cmvn --output shows.tsv
"""

from __future__ import annotations

import argparse

from gmmcore.config.features import FeaturePart
from gmmcore.config.options import add_options, options_of
from gmmcore.data.survey import check_list
from gmmcore.errors import counted

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--output", required=True, help="shows.tsv to write")
    add_options(parser, FeaturePart)


def run(arguments: argparse.Namespace) -> None:
    """Check the list and write the table of its shows."""
    settings = options_of(arguments, FeaturePart).for_run(None)
    table = check_list(settings).table
    table.write(arguments.output)
    facts = table.facts
    if settings.vad != facts["vad"]:
        print("no show has voice-activity labels: all frames are used")
    print(
        f"{counted(facts['shows'], 'show')}, {counted(facts['frames'], 'frame')}, "
        f"{counted(facts['shards'], 'shard')}, dimension {facts['dimension']}, "
        f"{counted(len(facts['faults']), 'show')} skipped"
    )
