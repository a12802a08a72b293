"""Make the first mixture of a training: one Gaussian, or a given mixture.

Example: gmmcore initialise --corpus corpus.json --output diag/1/000.h5
"""

from __future__ import annotations

import argparse

from gmmcore.cli.verbs._common import explained
from gmmcore.config.options import add_options, options_of
from gmmcore.core.cautions import few_frames
from gmmcore.errors import GmmcoreError

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from gmmcore.workflow.runs import Initialise

    parser.add_argument("--corpus", required=True)
    parser.add_argument("--from", dest="source", help="a mixture file of any format")
    parser.add_argument("--components", type=int, default=1, help="those of the final mixture")
    parser.add_argument("--output", required=True)
    add_options(parser, Initialise)


def run(arguments: argparse.Namespace) -> None:
    """Write the first mixture of a training."""
    from gmmcore.core.initial import controlled, one_gaussian
    from gmmcore.data.corpus import Corpus
    from gmmcore.files import sha256_of
    from gmmcore.formats.hdf5 import save_model
    from gmmcore.workflow.provenance import provenance, settings_digest
    from gmmcore.workflow.runs import Initialise

    settings = options_of(arguments, Initialise)
    corpus = Corpus.read(arguments.corpus)
    if corpus.frames < arguments.components:
        raise GmmcoreError(
            f"components: {arguments.components}, but there are only {corpus.frames} frames; "
            "train fewer components or bring more shows"
        )
    if line := few_frames(corpus.frames, arguments.components, corpus.dimension, full=False):
        print(f"warning: {line}")
    source = arguments.source
    if source is None:
        with explained(arguments.corpus):
            mixture = one_gaussian(corpus.moments, stored="float32")
    else:
        from gmmcore.formats.registry import read_mixture

        if settings.digest not in (None, sha256_of(source)):
            raise GmmcoreError(f"{source}: changed since the run began; start it again")
        mixture = read_mixture(source, prefix=settings.prefix)
        if mixture.dimension != corpus.dimension:
            raise GmmcoreError(
                f"{source}: has dimension {mixture.dimension}, the features have "
                f"{corpus.dimension}; choose other features or another mixture"
            )
        with explained(arguments.corpus):
            mixture = controlled(mixture, corpus.moments, stored="float32")
    kind = "full" if mixture.is_full else "diag"
    facts = provenance(
        stage=kind,
        components=mixture.components,
        corpus=corpus.digest,
        settings=settings_digest("initialise", settings),
    )
    save_model(arguments.output, mixture, facts)
    print(
        f"{kind} {mixture.components:>5}  start from {source or 'the Gaussian of all frames'}: "
        f"{corpus.frames} frames of dimension {corpus.dimension}"
    )
