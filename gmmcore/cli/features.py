"""Verbs from a list of shows to frames, and to the log-likelihood of shows."""

from __future__ import annotations

import argparse

from gmmcore.cli.verb import argument, options, verb
from gmmcore.errors import counted


@verb(
    argument("--output", required=True, help="shows.tsv to write"),
    options("config.features.FeaturePart"),
)
def shows(arguments: argparse.Namespace) -> None:
    """Check the feature list and deal its shows to shards.

    Example: gmmcore shows --list features --pattern {show}.h5 --normalisation cmvn --output s.tsv
    """
    from gmmcore.config.features import FeaturePart
    from gmmcore.config.options import options_of
    from gmmcore.data.check import check_list

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
