"""Gather a training into the final mixture and its history."""

from __future__ import annotations

import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--mixture", required=True, help="the last iteration's")
    parser.add_argument("--output", required=True, help="the final mixture")
    parser.add_argument("--history", required=True, help="a table of all iterations")


def run(arguments: argparse.Namespace) -> None:
    """Write the final mixture, compressed as SIDEKIT does, and the history."""
    from gmmcore.files import replace_text
    from gmmcore.formats.hdf5 import load_model, save_model
    from gmmcore.history import history_table

    model = load_model(arguments.mixture)
    facts = {**model.facts, "parent": model.digest}
    replace_text(arguments.history, history_table(model.history))
    save_model(arguments.output, model.mixture, facts, model.history, compress=True)
    print(f"final mixture: {arguments.output}  ({model.mixture!r})")
