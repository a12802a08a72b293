"""Say where runs are: what is done, whether a job is at work, what is to come.

Example: gmmcore status results/demo
"""

from __future__ import annotations

import argparse
import os

from gmmcore.cli.verbs._runs import add_cores, add_runs, folders_of, runs_of

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_runs(parser)
    add_cores(parser)


def run(arguments: argparse.Namespace) -> None:
    """Print a few lines for each run."""
    from gmmcore.errors import GmmcoreError
    from gmmcore.workflow.status import status_lines

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
    for results, chosen in folders_of(arguments, runs, config):
        for line in status_lines(chosen, results, arguments.cores or os.cpu_count() or 1):
            print(line)
