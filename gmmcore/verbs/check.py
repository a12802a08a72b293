"""Verify every file of the runs of a configuration."""

from __future__ import annotations

import argparse
import os

from gmmcore.errors import GmmcoreError

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "results",
        metavar="RESULTS",
        nargs="*",
        help="folders of runs, such as results/demo; by default those of all runs, in results",
    )
    parser.add_argument("--configfile", default="config.yaml", help="what Snakemake is given")


def run(arguments: argparse.Namespace) -> None:
    """Print what is wrong and how it is fixed."""
    from gmmcore.checking import check_run
    from gmmcore.configuration import read_configuration
    from gmmcore.runs import read_runs

    config = arguments.configfile
    runs = read_runs(read_configuration(config), config)
    files = faults = 0
    for folder in arguments.results or [f"results/{name}" for name in runs]:
        results, name = os.path.split(os.path.normpath(folder))
        if name not in runs:
            raise GmmcoreError(
                f"{folder}: {config} has no run {name}; its runs are {', '.join(runs)}"
            )
        if not os.path.isdir(folder):
            raise GmmcoreError(f"{folder}: no such folder; expected the results of a run")
        checked = check_run(runs[name], results)
        for note in checked.notes:
            print(f"note: {note}")
        for path, what in checked.findings.items():
            remove = f"rm '{path}' && " * what.endswith("; remove it")
            print(f"{path}: {what.removesuffix('; remove it')}; to fix it: {remove}snakemake")
        print(f"{folder}: {checked.files} files and {checked.frames} frames verified")
        files += checked.files
        faults += len(checked.findings)
    if faults:
        are = "1 file is" if faults == 1 else f"{faults} files are"
        raise GmmcoreError(f"{are} not what they should be; the lines above say how to fix that")
