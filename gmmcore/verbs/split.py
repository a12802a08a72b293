"""Divide components in two along their largest deviation."""

from __future__ import annotations

import argparse

from gmmcore.verbs.common import explained

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--mixture", required=True)
    parser.add_argument("--components", type=int, help="afterwards; twice as many by default")
    parser.add_argument("--output", required=True)


def run(arguments: argparse.Namespace) -> None:
    """Write the divided mixture."""
    from gmmcore.em import ARITHMETIC, split
    from gmmcore.files import digest_of
    from gmmcore.formats.hdf5 import load_model, save_model

    model = load_model(arguments.mixture)
    components = arguments.components or 2 * model.mixture.components
    with explained(arguments.mixture):
        # Removed weak components leave fewer than planned; then fewer can be made of them.
        mixture = split(model.mixture, min(components, 2 * model.mixture.components))
    facts = {
        "stage": "full" if mixture.is_full else "diag",
        "components": components,
        "iteration": 0,
        "parent": model.digest,
        "corpus": model.facts.get("corpus"),
        "settings": digest_of("split", ARITHMETIC),
    }
    save_model(arguments.output, mixture, facts, model.history)
