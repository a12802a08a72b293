"""Verify every file of a run and its chain of parents."""

from __future__ import annotations

import argparse

from gmmcore.errors import GmmcoreError

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "results",
        metavar="RESULTS",
        help="folder of a run, such as results/demo, seen from where Snakemake is run",
    )


def run(arguments: argparse.Namespace) -> None:
    """Print what is broken and the command that mends it."""
    from gmmcore.checking import check_run

    checked = check_run(arguments.results)
    for note in checked.notes:
        print(f"note: {note}")
    for finding in checked.findings:
        print(finding.line())
    count = len(checked.findings)
    if count:
        raise GmmcoreError(
            f"{arguments.results}: {count} of {checked.files} files "
            f"{'is' if count == 1 else 'are'} not what they should be; the lines above say how "
            "to mend that"
        )
    print(
        f"{arguments.results}: {checked.files} files and {checked.frames} frames verified; "
        "the chain of mixtures and the history are whole"
    )
