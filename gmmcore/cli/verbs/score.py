"""Compute the log-likelihood of shows under mixtures, processed as in training.

Example: gmmcore score results/demo/diag/*.h5 --list held-out.txt
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from gmmcore.cli.verbs._common import add_reading, read_any
from gmmcore.errors import GmmcoreError, counted

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("mixtures", metavar="MODEL", nargs="+", help="mixtures of any format")
    parser.add_argument(
        "--config", default="config.yaml", help="what says how features are processed"
    )
    parser.add_argument("--run", help="which of the configuration's runs; by default the first")
    parser.add_argument("--list", help="the shows; by default those that the run holds out")
    parser.add_argument("--threads", type=int, default=1, help="do not change the result")
    parser.add_argument("--output", help="the table; by default it is printed")
    add_reading(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write a table of the log-likelihood per frame of each show, and of all of them."""
    from gmmcore.config.configuration import read_configuration, resolve_runs
    from gmmcore.config.features import FeatureSettings
    from gmmcore.data.score import score_list
    from gmmcore.files import replace_text
    from gmmcore.workflow.runs import feature_parts

    config = arguments.config
    runs = resolve_runs(read_configuration(config), config)
    name = arguments.run or next(iter(runs))
    if name not in runs:
        raise GmmcoreError(f"{config}: has no run {name}; its runs are {', '.join(runs)}")
    settings = runs[name]
    shows: FeatureSettings | None
    if arguments.list is not None:
        shows = replace(settings.features, list=arguments.list)
    else:
        shows = feature_parts(settings)[1]
    if shows is None:
        raise GmmcoreError(f"{config}: run {name} holds no shows out; give --list, or set held_out")
    scores = score_list(
        [read_any(path, arguments) for path in arguments.mixtures],
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
