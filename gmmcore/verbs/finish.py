"""Write the last mixture of a training as the final one.

Example: gmmcore finish --mixture full/64.h5 --output ubm.h5
"""

from __future__ import annotations

import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--mixture", required=True, help="the last stage's")
    parser.add_argument("--output", required=True, help="the final mixture")


def run(arguments: argparse.Namespace) -> None:
    """Write the final mixture, compressed as SIDEKIT does."""
    from gmmcore.formats.hdf5 import load_model, save_model

    model = load_model(arguments.mixture)
    facts = {**model.facts, "parent": model.digest}
    save_model(arguments.output, model.mixture, facts, model.history, compress=True)
    print(f"finished: {arguments.output}  ({model.mixture!r})")
    if "held_out" in facts:
        print(f"held-out log-likelihood/frame {facts['held_out']:.6f}")
