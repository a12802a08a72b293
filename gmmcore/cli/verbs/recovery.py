"""Compare a trained mixture with the known one.

Example: gmmcore recovery --truth truth.h5 --mixture ubm.h5 --corpus corpus.json --output r.txt
"""

from __future__ import annotations

import argparse

from gmmcore.cli.verbs._common import explained

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--truth", required=True)
    parser.add_argument("--mixture", required=True)
    parser.add_argument("--corpus", required=True, help="corpus.json; the shards lie beside it")
    parser.add_argument("--output", required=True)


def run(arguments: argparse.Namespace) -> None:
    """Write the comparison to a file, and print it."""
    import numpy as np

    from gmmcore.core.estep import accumulate
    from gmmcore.data.corpus import Corpus
    from gmmcore.data.demo.recovery import compare_to_truth
    from gmmcore.data.joined import CorpusFrames
    from gmmcore.files import replace_text
    from gmmcore.formats.hdf5 import load_model

    truth = load_model(arguments.truth).mixture
    mixture = load_model(arguments.mixture).mixture
    frames = CorpusFrames(Corpus.read(arguments.corpus), arguments.corpus).at(0)
    with explained(arguments.mixture):
        trained, known = (
            accumulate(model, frames).log_likelihood_per_frame for model in (mixture, truth)
        )
    recovery = compare_to_truth(truth, mixture)
    errors = np.abs(recovery.mean_errors)
    lines = [
        f"log-likelihood/frame: {trained:.4f} trained, {known:.4f} of the true mixture "
        f"({trained - known:+.4f})",
        f"{recovery.found()} of {truth.components} true components recovered (every coefficient "
        "of the mean within 0.5 standard deviations)",
        f"error of the means, in standard deviations: median {np.median(errors):.3f}, "
        f"largest {errors.max():.3f}",
        f"error of the weights: median {np.median(np.abs(recovery.weight_errors)):.1%}",
    ]
    replace_text(arguments.output, "\n".join(lines) + "\n")
    print("\n".join(lines))
