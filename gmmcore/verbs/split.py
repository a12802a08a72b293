"""Divide components in two along their axis of largest variance.

Example: gmmcore split --mixture diag/32.h5 --components 64 --output diag/64/000.h5
"""

from __future__ import annotations

import argparse

from gmmcore.verbs._common import explained

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--mixture", required=True)
    parser.add_argument("--components", type=int, help="afterwards; twice as many by default")
    parser.add_argument("--output", required=True)


def run(arguments: argparse.Namespace) -> None:
    """Write the mixture with divided components."""
    from gmmcore.em import split
    from gmmcore.formats.hdf5 import load_model, save_model
    from gmmcore.provenance import Provenance, settings_digest

    model = load_model(arguments.mixture)
    components = arguments.components or 2 * model.mixture.components
    with explained(arguments.mixture):
        # If components were removed, those that are left may make fewer than planned.
        mixture = split(model.mixture, min(components, 2 * model.mixture.components))
    provenance = Provenance(
        stage="full" if mixture.is_full else "diag",
        components=components,
        parent=model.digest,
        corpus=model.facts.get("corpus"),
        settings=settings_digest("split"),
        arithmetic=model.facts.get("arithmetic"),
    )
    save_model(arguments.output, mixture, provenance.facts(), model.history)
