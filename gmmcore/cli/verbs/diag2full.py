"""Turn a diagonal mixture into a full-covariance one.

Example: gmmcore diag2full --mixture diag/64.h5 --output full/64/000.h5
"""

from __future__ import annotations

import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--mixture", required=True)
    parser.add_argument("--output", required=True)


def run(arguments: argparse.Namespace) -> None:
    """Write the mixture with full covariances."""
    from gmmcore.core.initial import to_full
    from gmmcore.formats.hdf5 import load_model, save_model
    from gmmcore.workflow.provenance import provenance, settings_digest

    model = load_model(arguments.mixture)
    facts = provenance(
        stage="full",
        components=model.facts.get("components", model.mixture.components),
        parent=model.digest,
        corpus=model.facts.get("corpus"),
        settings=settings_digest("diag2full"),
    )
    save_model(arguments.output, to_full(model.mixture), facts, model.history)
