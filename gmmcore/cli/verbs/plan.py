"""Say what a configuration will train: stages, frames, time and memory, before anything starts.

Example: gmmcore plan config.yaml --frames 1000000 --dimension 60
"""

from __future__ import annotations

import argparse
import os

from gmmcore.cli.verbs._runs import add_configuration, add_cores, runs_of
from gmmcore.errors import GmmcoreError

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("configfile", metavar="CONFIG", nargs="*", default=["config.yaml"])
    add_configuration(parser)
    add_cores(parser)
    parser.add_argument("--results", default="results", help="where the frames may be already")
    parser.add_argument("--frames", type=int, help="how many, where they are not packed yet")
    parser.add_argument("--dimension", type=int, help="coefficients of a frame, as trained on")


def run(arguments: argparse.Namespace) -> None:
    """Print a table for each run."""
    from gmmcore.workflow.planning import plan_lines

    for name in ("frames", "dimension", "cores"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise GmmcoreError(f"--{name} {value}: expected 1 or more")
    if (arguments.frames is None) != (arguments.dimension is None):
        raise GmmcoreError("--frames and --dimension: both were expected, or none of them")
    given = None if arguments.frames is None else (arguments.frames, arguments.dimension)
    for one in runs_of(arguments)[0].values():
        for line in plan_lines(
            one, arguments.results, arguments.cores or os.cpu_count() or 1, given
        ):
            print(line)
