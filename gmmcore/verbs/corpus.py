"""Gather the shards: every faulty show in one report, and the moments of all frames."""

from __future__ import annotations

import argparse
from pathlib import Path

from gmmcore.errors import GmmcoreError
from gmmcore.verbs.common import open_shards

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--shards", nargs="+", required=True, help="all shards of the run")
    parser.add_argument("--components", type=int, default=1, help="those of the final mixture")
    parser.add_argument("--on-error", choices=["stop", "skip"], default="stop")
    parser.add_argument("--output", required=True)


def run(arguments: argparse.Namespace) -> None:
    """Write corpus.json."""
    from gmmcore.corpus import Corpus, CorpusShard
    from gmmcore.features.faults import report
    from gmmcore.features.moments import merge_moments
    from gmmcore.features.shards import faults_of

    faults = faults_of(arguments.shards)
    if faults and arguments.on_error == "stop":
        raise GmmcoreError(report(faults, "features"))
    shards = open_shards(arguments.shards)
    moments = merge_moments(shard.moments for shard in shards)
    frames, components = moments.count, arguments.components
    if frames < max(components, 2):
        raise GmmcoreError(
            f"components: {components}, but there are only {frames} frames; "
            "train fewer components or bring more shows"
        )
    if frames < 10 * components:
        print(f"warning: {frames} frames are fewer than 10 for each of {components} components")
    Corpus(
        tuple(
            CorpusShard(shard.facts["shard"], Path(shard.path).name, shard.frames, shard.content)
            for shard in shards
        ),
        shards[0].dimension,
        tuple(moments.mean.tolist()),
        tuple(moments.scatter.tolist()),
        len(faults),
    ).write(arguments.output)
    skipped = f", {len(faults)} faulty shows skipped" if faults else ""
    print(f"{frames} frames of dimension {shards[0].dimension} in {len(shards)} shards{skipped}")
