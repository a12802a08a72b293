"""Gather the shards, their faults and their moments.

Example: gmmcore corpus --shows shows.tsv --output corpus.json --skipped skipped.tsv
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from gmmcore.errors import GmmcoreError, counted

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--shows", required=True, help="shows.tsv; its shards lie beside it")
    parser.add_argument("--on-error", choices=["stop", "skip"], default="stop")
    parser.add_argument("--output", required=True, help="corpus.json")
    parser.add_argument("--skipped", required=True, help="a table of the faulty shows")


def run(arguments: argparse.Namespace) -> None:
    """Write corpus.json, and skipped.tsv with all faulty shows; remove obsolete shards."""
    from gmmcore.core.moments import merge_moments
    from gmmcore.data.check import shard_paths
    from gmmcore.data.corpus import Corpus, CorpusShard
    from gmmcore.data.readers import Fault, fault_table, report
    from gmmcore.data.shards import Shard
    from gmmcore.data.shows import ShowTable
    from gmmcore.files import replace_text

    paths = list(shard_paths(arguments.shows).values())
    shards = []
    for path in paths:
        with Shard(path) as shard:
            shards.append(shard)
    found = [fault for shard in shards for fault in shard.faults]
    faults = [*(Fault(**f) for f in ShowTable.read_facts(arguments.shows)["faults"]), *found]
    moments = merge_moments(shard.moments for shard in shards)
    if moments.count < 2:
        left = f"{arguments.shows}: {counted(moments.count, 'frame')} left; expected 2 or more"
        if not faults:
            raise GmmcoreError(f"{left}; add shows, or set features: vad to null (all frames)")
        raise GmmcoreError(report(faults, left, "fix these shows, or add others"))
    if found and arguments.on_error == "stop":
        raise GmmcoreError(report(found))
    table = fault_table(faults)
    replace_text(arguments.skipped, table)
    Corpus(
        tuple(map(CorpusShard.of, shards)),
        shards[0].dimension,
        tuple(moments.mean.tolist()),
        tuple(moments.scatter.tolist()),
        len(faults),
        hashlib.sha256(table.encode()).hexdigest(),
    ).write(arguments.output)
    for old in set(Path(arguments.shows).parent.glob("*.npy")) - set(map(Path, paths)):
        old.unlink(missing_ok=True)  # It is a shard of an earlier table.
    skipped = ""
    if faults:
        skipped = f"; {counted(len(faults), 'faulty show')} skipped, named in {arguments.skipped}"
    print(
        f"{moments.count} frames of dimension {shards[0].dimension} in "
        f"{counted(len(shards), 'shard')}{skipped}"
    )
