"""Say where runs are: what is done, whether a job is at work, what is to come and what it takes.

Example: gmmcore status results/demo
         gmmcore status --frames 1000000 --dimension 60 (before anything starts)
"""

from __future__ import annotations

import argparse
import os

from gmmcore.cli.verbs._runs import add_runs, folders_of, runs_of
from gmmcore.errors import GmmcoreError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_runs(parser)
    parser.add_argument(
        "--cores", type=int, help="what Snakemake is given; by default all of this machine"
    )
    parser.add_argument("--frames", type=int, help="how many, where they are not packed yet")
    parser.add_argument("--dimension", type=int, help="coefficients of a frame, as trained on")


def run(arguments: argparse.Namespace) -> None:
    """Print a table for each run."""
    from gmmcore.workflow.status import status_lines

    for name in ("frames", "dimension", "cores"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise GmmcoreError(f"--{name} {value}: expected 1 or more")
    if (arguments.frames is None) != (arguments.dimension is None):
        raise GmmcoreError("--frames and --dimension: both were expected, or none of them")
    frames = None if arguments.frames is None else (arguments.frames, arguments.dimension)
    runs, config = runs_of(arguments)
    given = arguments.results
    if absent := next((folder for folder in given if not os.path.isdir(folder)), None):
        raise GmmcoreError(
            f"{absent}: no such folder; expected the results of a run, or of all, such as results"
        )
    # `results` stands for the runs in it.
    arguments.results = [
        os.path.join(folder, name)
        for folder in given
        for name in ([""] if os.path.basename(os.path.normpath(folder)) in runs else runs)
    ]
    cores = arguments.cores or os.cpu_count() or 1
    for results, chosen in folders_of(arguments, runs, config):
        for line in status_lines(chosen, results, cores, frames):
            print(line)
