"""Verify every file of the runs of a configuration.

Example: gmmcore check results/demo
"""

from __future__ import annotations

import argparse
import os
from typing import Any

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
    parser.add_argument(
        "--configfile",
        nargs="+",
        default=["config.yaml"],
        help="what Snakemake is given; later files override earlier ones",
    )
    parser.add_argument(
        "--section",
        metavar="KEY",
        help="the part of the configuration that a module is given; name its RESULTS too",
    )


def run(arguments: argparse.Namespace) -> None:
    """Print what is wrong with each file and how to fix it."""
    from gmmcore.checking import check_run
    from gmmcore.configuration import merged, read_configuration
    from gmmcore.runs import read_runs

    config = " ".join(arguments.configfile)
    values: dict[str, Any] = {}
    for path in arguments.configfile:
        values = merged(values, read_configuration(path))
    if arguments.section is not None:
        config += f": {arguments.section}"
        values = values.get(arguments.section, {})
        if not isinstance(values, dict):
            raise GmmcoreError(f"{config}: holds no keys; the configuration of runs was expected")
    runs = read_runs(values, config)
    files = faults = 0
    known: dict[str, Any] = {}
    for folder in arguments.results or [f"results/{name}" for name in runs]:
        results, name = os.path.split(os.path.normpath(folder))
        if name not in runs:
            raise GmmcoreError(
                f"{folder}: {config} has no run {name}; its runs are {', '.join(runs)}"
            )
        if not os.path.isdir(folder):
            raise GmmcoreError(f"{folder}: no such folder; expected the results of a run")
        checked = check_run(runs[name], results, known)
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
