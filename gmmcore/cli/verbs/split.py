"""Divide components in two.

Example: gmmcore split --mixture diag/32.h5 --corpus corpus.json --components 64 --output 000.h5
"""

from __future__ import annotations

import argparse
from functools import cache
from typing import TYPE_CHECKING

from gmmcore.cli.verbs._common import explained
from gmmcore.config.options import add_options, options_of
from gmmcore.config.steps import Split
from gmmcore.errors import GmmcoreError

if TYPE_CHECKING:
    from gmmcore.core.frames import FrameSource
    from gmmcore.data.corpus import CorpusFrames

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--mixture", required=True)
    parser.add_argument("--components", type=int, help="afterwards; twice as many by default")
    parser.add_argument("--corpus", help="corpus.json, whose frames decide; not for sidekit")
    parser.add_argument("--threads", type=int, default=1, help="do not change the result")
    parser.add_argument("--output", required=True)
    add_options(parser, Split)


def run(arguments: argparse.Namespace) -> None:
    """Write the mixture with divided components."""
    from gmmcore.core.divide import divided
    from gmmcore.data.corpus import Corpus, CorpusFrames
    from gmmcore.formats.hdf5 import load_model, save_model
    from gmmcore.workflow.provenance import provenance, settings_digest

    settings = options_of(arguments, Split)
    model = load_model(arguments.mixture)
    components = arguments.components or 2 * model.mixture.components

    @cache
    def frames() -> CorpusFrames:
        if arguments.corpus is None:
            raise GmmcoreError("--corpus is required; only --method sidekit needs no frames")
        return CorpusFrames(Corpus.read(arguments.corpus), arguments.corpus)

    def subset(level: int) -> FrameSource:
        return frames().at(level)

    with explained(arguments.mixture):
        mixture = divided(
            model.mixture,
            components,
            subset,
            method=settings.method,
            floor=settings.floor,
            threads=arguments.threads,
        )
    facts = provenance(
        stage="full" if mixture.is_full else "diag",
        components=components,
        parent=model.digest,
        corpus=model.facts.get("corpus"),
        settings=settings_digest("split", settings),
    )
    save_model(arguments.output, mixture, facts, model.history)
