"""Verify every file of the runs of a configuration.

Example: gmmcore check results/demo
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from gmmcore.cli.verbs._runs import add_runs, folders_of, runs_of
from gmmcore.errors import GmmcoreError

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_runs(parser)


def run(arguments: argparse.Namespace) -> None:
    """Print what is wrong with each file and how to fix it."""
    from gmmcore.workflow.checking import check_run

    files = faults = 0
    known: dict[str, Any] = {}
    for results, chosen in folders_of(arguments, *runs_of(arguments)):
        folder = os.path.join(results, chosen.name)
        if not os.path.isdir(folder):
            raise GmmcoreError(f"{folder}: no such folder; expected the results of a run")
        checked = check_run(chosen, results, known)
        for note in checked.notes:
            print(f"note: {note}")
        for path, what in checked.findings.items():
            remove = f"rm '{path}' && " * what.endswith("; remove it")
            print(f"{path}: {what.removesuffix('; remove it')}; to fix it: {remove}snakemake")
        print(f"{folder}: {checked.files} files and {checked.frames} frames verified")
        files += checked.files
        faults += len(checked.findings)
    if faults:
        are = "1 file is not what it" if faults == 1 else f"{faults} files are not what they"
        raise GmmcoreError(f"{are} should be; the lines above say how to fix that")
