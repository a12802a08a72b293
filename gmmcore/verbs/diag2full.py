"""Turn a diagonal mixture into a full-covariance one."""

from __future__ import annotations

import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--mixture", required=True)
    parser.add_argument("--output", required=True)


def run(arguments: argparse.Namespace) -> None:
    """Write the mixture with covariance matrices."""
    from gmmcore.em import ARITHMETIC, to_full
    from gmmcore.files import digest_of
    from gmmcore.formats.hdf5 import load_model, save_model

    model = load_model(arguments.mixture)
    facts = {
        "stage": "full",
        "components": model.facts.get("components", model.mixture.components),
        "iteration": 0,
        "parent": model.digest,
        "corpus": model.facts.get("corpus"),
        "settings": digest_of("diag2full", ARITHMETIC),
    }
    save_model(arguments.output, to_full(model.mixture), facts, model.history)
