"""Verbs that make mixtures, in the order of a training."""

from __future__ import annotations

import argparse
import sys

from gmmcore.cli.verb import OUTPUT, argument, explained, options, verb
from gmmcore.errors import GmmcoreError


@verb(
    argument("--corpus", required=True),
    argument("--from", dest="source", help="a mixture file of any format"),
    argument("--components", type=int, default=1, help="those of the final mixture"),
    OUTPUT,
    options("workflow.runs.Initialise"),
)
def initialise(arguments: argparse.Namespace) -> None:
    """Make the first mixture of a training: one Gaussian, or a given mixture.

    Example: gmmcore initialise --corpus corpus.json --output diag/1/000.h5
    """
    from gmmcore.config.options import options_of
    from gmmcore.core.describe import few_frames
    from gmmcore.core.initial import controlled, one_gaussian
    from gmmcore.data.corpus import Corpus
    from gmmcore.files import sha256_of
    from gmmcore.formats.hdf5 import save_model
    from gmmcore.formats.registry import read_mixture
    from gmmcore.workflow.provenance import provenance, settings_digest
    from gmmcore.workflow.runs import Initialise

    settings = options_of(arguments, Initialise)
    corpus, source = Corpus.read(arguments.corpus), arguments.source
    if corpus.frames < arguments.components:
        raise GmmcoreError(
            f"components: {arguments.components}, but there are only {corpus.frames} frames; "
            "train fewer components or bring more shows"
        )
    if line := few_frames(corpus.frames, arguments.components, corpus.dimension, full=False):
        print(f"warning: {line}")
    if source is None:
        with explained(arguments.corpus):
            mixture = one_gaussian(corpus.moments, stored="float32")
    else:
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


@verb(
    argument("--mixture", required=True, help="the last stage's"),
    argument("--output", required=True, help="the final mixture"),
    options("config.steps.Limits"),
)
def finish(arguments: argparse.Namespace) -> None:
    """Write the last mixture of a training as the final one.

    Example: gmmcore finish --mixture full/64.h5 --output ubm.h5
    """
    from gmmcore.config.options import options_of
    from gmmcore.config.steps import Limits
    from gmmcore.core.describe import cautions
    from gmmcore.formats.hdf5 import load_model, save_model

    model = load_model(arguments.mixture)
    facts = {**model.facts, "parent": model.digest}
    # Compressed, as SIDEKIT does it.
    save_model(arguments.output, model.mixture, facts, model.history, compress=True)
    print(f"finished: {arguments.output}  ({model.mixture!r})")
    if "held_out" in facts:
        print(f"held-out log-likelihood/frame {facts['held_out']:.6f}")
    for line in cautions(model.mixture, model.history, options_of(arguments, Limits).llk_gain):
        print(f"warning: {line}", file=sys.stderr)
