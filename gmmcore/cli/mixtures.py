"""Verbs that look at mixtures, whatever their formats."""

from __future__ import annotations

import argparse

from gmmcore.cli.verb import OUTPUT, argument, verb


@verb(argument("--mixture", required=True, help="a mixture that gmmcore trained"), OUTPUT)
def history(arguments: argparse.Namespace) -> None:
    """Write the iterations that led to a mixture as a table.

    Example: gmmcore history --mixture ubm.h5 --output history.tsv
    """
    from gmmcore.core.history import history_table
    from gmmcore.files import replace_text
    from gmmcore.formats.hdf5 import load_model

    replace_text(arguments.output, history_table(load_model(arguments.mixture).history))
