"""Write the last mixture of a training as the final one.

Example: gmmcore finish --mixture full/64.h5 --output ubm.h5
"""

from __future__ import annotations

import argparse
import sys

from gmmcore.config.options import add_options, options_of
from gmmcore.config.steps import Limits

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--mixture", required=True, help="the last stage's")
    parser.add_argument("--output", required=True, help="the final mixture")
    add_options(parser, Limits)


def run(arguments: argparse.Namespace) -> None:
    """Write the final mixture, compressed as SIDEKIT does, and print what to be careful about."""
    from gmmcore.core.cautions import cautions
    from gmmcore.formats.hdf5 import load_model, save_model

    model = load_model(arguments.mixture)
    facts = {**model.facts, "parent": model.digest}
    save_model(arguments.output, model.mixture, facts, model.history, compress=True)
    print(f"finished: {arguments.output}  ({model.mixture!r})")
    if "held_out" in facts:
        print(f"held-out log-likelihood/frame {facts['held_out']:.6f}")
    for line in cautions(model.mixture, model.history, options_of(arguments, Limits).llk_gain):
        print(f"warning: {line}", file=sys.stderr)
