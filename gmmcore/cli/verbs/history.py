"""Write the iterations that led to a mixture as a table.

Example: gmmcore history --mixture ubm.h5 --output history.tsv
"""

from __future__ import annotations

import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--mixture", required=True, help="a mixture that gmmcore trained")
    parser.add_argument("--output", required=True)


def run(arguments: argparse.Namespace) -> None:
    """Write the table."""
    from gmmcore.core.history import history_table
    from gmmcore.files import replace_text
    from gmmcore.formats.hdf5 import load_model

    replace_text(arguments.output, history_table(load_model(arguments.mixture).history))
