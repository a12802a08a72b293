"""Verbs from a list of shows to frames, and to the log-likelihood of shows."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from gmmcore.cli.verb import (
    CONFIGURATION,
    INPUT_FORMAT,
    PREFIX,
    THREADS,
    argument,
    call,
    configuration_of,
    options,
    stamp,
    verb,
)
from gmmcore.config.configuration import resolve_runs
from gmmcore.config.keys import FeaturePart
from gmmcore.config.options import options_of
from gmmcore.core.parallel import processes_map
from gmmcore.data.check import check_list, shard_paths
from gmmcore.data.corpus import gather
from gmmcore.data.score import score_list
from gmmcore.data.shards import pack_shard
from gmmcore.data.shows import ShowTable
from gmmcore.errors import DamagedFileError, GmmcoreError, counted
from gmmcore.files import read_json, replace_text
from gmmcore.formats.registry import read_mixture
from gmmcore.workflow.runs import feature_parts


@verb(
    argument("--output", required=True, help="shows.tsv to write"),
    options(FeaturePart),
    stamp("features"),
)
def shows(arguments: argparse.Namespace) -> None:
    """Check the feature list and deal its shows to shards.

    Example: gmmcore shows --list features --pattern {show}.h5 --normalisation cmvn --output s.tsv
    """
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


@verb(
    argument("--shows", required=True, help="the table that `gmmcore shows` wrote"),
    argument("--shard", required=True, help="name of the shard, as in the table"),
    argument("--output", required=True, help="shard file to write"),
    options(FeaturePart),
    stamp("features"),
)
def shard(arguments: argparse.Namespace) -> None:
    """Process the shows of one shard and pack their frames.

    Example: gmmcore shard --list features --shows shows.tsv --shard 000 --output 000.npy
    """
    settings = options_of(arguments, FeaturePart).for_run(None)
    facts, written = pack_shard(settings, arguments.shows, arguments.shard, arguments.output)
    if not written:  # It is there.
        return
    faults = f", {len(facts['faults'])} faulty" if facts["faults"] else ""
    print(
        f"shard {arguments.shard}: {counted(facts['shows'], 'show')}, "
        f"{counted(facts['frames'], 'frame')}{faults}"
    )


@verb(
    argument("--shows", required=True, help="shows.tsv; its shards lie beside it"),
    argument("--on-error", choices=["stop", "skip"], default="stop"),
    argument("--output", required=True, help="corpus.json"),
    argument("--skipped", required=True, help="a table of the faulty shows"),
    stamp("features"),
)
def corpus(arguments: argparse.Namespace) -> None:
    """Gather the shards, their faults and their moments.

    Example: gmmcore corpus --shows shows.tsv --output corpus.json --skipped skipped.tsv
    """
    wanted = read_json(arguments.settings)["fingerprint"] if arguments.settings else None
    if wanted not in (None, ShowTable.read_facts(arguments.shows)["fingerprint"]):
        raise DamagedFileError(arguments.shows, "not the table of the features as they are")
    found, table = gather(arguments.shows, skip=arguments.on_error == "skip")
    replace_text(arguments.skipped, table)
    found.write(arguments.output)
    shards = set(map(Path, found.paths(arguments.shows)))
    for old in set(Path(arguments.shows).parent.glob("*.npy")) - shards:
        old.unlink(missing_ok=True)  # It is a shard of an earlier table.
    skipped = ""
    if found.skipped:
        skipped = f"; {counted(found.skipped, 'faulty show')} skipped, named in {arguments.skipped}"
    facts = ShowTable.read_facts(arguments.shows)
    are = "frames are speech" if facts["vad"] else "frames are used"
    print(
        f"{found.frames:,} of {facts['frames']:,} {are}, of dimension {found.dimension}, in "
        f"{counted(len(shards), 'shard')}{skipped}"
    )


@verb(
    argument("--settings", required=True, help="source.json"),
    argument("--list", nargs="*", default=[], help="the feature list, if not that of the settings"),
    argument("--shows", required=True, help="shows.tsv to write, beside the shards"),
    argument("--output", required=True, help="corpus.json"),
    argument("--skipped", required=True, help="a table of the faulty shows"),
    THREADS,
)
def pack(arguments: argparse.Namespace) -> None:
    """Make all files from the feature list to the frames, each by its verb, in one process.

    Example: gmmcore pack --settings source.json --shows shows.tsv --output corpus.json
             --skipped skipped.tsv
    """
    settings = ["--settings", arguments.settings]
    given = [word for path in arguments.list for word in ("--list", path)]
    call("shows", *settings, *given, "--output", arguments.shows)
    shards = shard_paths(arguments.shows)

    def make(name: str) -> None:
        words = [*given, "--shows", arguments.shows, "--shard", name, "--output", shards[name]]
        call("shard", *settings, *words)

    missing = [name for name, path in shards.items() if not os.path.exists(path)]
    for _ in processes_map(min(arguments.threads, len(missing)))(make, missing):
        pass
    words = ["--shows", arguments.shows, "--output", arguments.output]
    call("corpus", *settings, *words, "--skipped", arguments.skipped)


@verb(
    argument("mixtures", metavar="MODEL", nargs="+", help="mixtures of any format"),
    *CONFIGURATION,
    argument("--run", help="which of the configuration's runs; by default the first"),
    argument("--list", help="the shows; by default those that the run holds out"),
    THREADS,
    argument("--output", help="the table; by default it is printed"),
    INPUT_FORMAT,
    PREFIX,
)
def score(arguments: argparse.Namespace) -> None:
    """Compute the log-likelihood of shows under mixtures, processed as in training.

    Example: gmmcore score results/demo/diag/*.h5 --list held-out.txt
    """
    values, config = configuration_of(arguments)
    runs = resolve_runs(values, config)
    name = arguments.run or next(iter(runs))
    if name not in runs:
        raise GmmcoreError(f"{config}: has no run {name}; its runs are {', '.join(runs)}")
    settings = runs[name]
    shows = feature_parts(settings)[1]
    if arguments.list is not None:
        shows = replace(settings.features, list=arguments.list)
    if shows is None:
        raise GmmcoreError(f"{config}: run {name} holds no shows out; give --list, or set held_out")
    scores = score_list(
        [
            read_mixture(path, prefix=arguments.prefix, format=arguments.input_format)
            for path in arguments.mixtures
        ],
        shows.for_run(settings.seed),
        precision=settings.precision,
        threads=arguments.threads,
    )
    for fault in scores.faults:
        print(f"warning: skipped: {fault.line()}", file=sys.stderr)
    table = scores.table(arguments.mixtures)
    if arguments.output is None:
        print(table, end="")
        return
    replace_text(arguments.output, table)
    print(f"{arguments.output}: {counted(len(scores.shows), 'show')}, {scores.frames.sum()} frames")
