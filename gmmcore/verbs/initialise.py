"""One Gaussian, or a given mixture, to start a training from."""

from __future__ import annotations

import argparse
import sys

from gmmcore.errors import GmmcoreError
from gmmcore.verbs.common import corpus_digest, explained, open_shards

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--shards", nargs="+", required=True, help="all shards of the run")
    parser.add_argument("--from", dest="source", help="an existing mixture, of any format")
    parser.add_argument("--prefix", default="", help="of its datasets in a SIDEKIT file")
    parser.add_argument("--components", type=int, default=1, help="those of the final mixture")
    parser.add_argument("--on-error", choices=["stop", "skip"], default="stop")
    parser.add_argument("--output", required=True)


def run(arguments: argparse.Namespace) -> None:
    """Write the first mixture of a training."""
    from gmmcore.em import ARITHMETIC, one_gaussian
    from gmmcore.features.shards import faults_of, merge_moments
    from gmmcore.formats import read_mixture
    from gmmcore.formats.hdf5 import save_model

    shards = open_shards(arguments.shards)
    faults = faults_of(arguments.shards)
    if faults and arguments.on_error == "stop":
        raise GmmcoreError(faults_report(faults))
    count, mean, second = merge_moments([shard.moments for shard in shards])
    if arguments.source is None:
        with explained(arguments.shards[0]):
            mixture = one_gaussian(count, mean, second)
    else:
        mixture = read_mixture(arguments.source, prefix=arguments.prefix)
        if mixture.dimension != len(mean):
            raise GmmcoreError(
                f"{arguments.source}: has dimension {mixture.dimension}, "
                f"the features have {len(mean)}; choose other features or another mixture"
            )
    if count < arguments.components:
        raise GmmcoreError(
            f"components: {arguments.components}, but there are only {count} frames; "
            "train fewer components or bring more shows"
        )
    if count < 10 * arguments.components:
        print(
            f"warning: {count} frames are fewer than 10 for each of the "
            f"{arguments.components} components",
            file=sys.stderr,
        )
    kind = "full" if mixture.is_full else "diag"
    save_model(
        arguments.output,
        mixture,
        {
            "stage": kind,
            "components": mixture.components,
            "iteration": 0,
            "parent": None,
            "corpus": corpus_digest([shard.digest for shard in shards]),
            "arithmetic": ARITHMETIC,
        },
    )
    origin = arguments.source or "the Gaussian of all frames"
    print(
        f"{kind} {mixture.components:>5}  start: {origin}; "
        f"{count} frames of dimension {len(mean)} in {len(shards)} shards"
    )


def faults_report(faults: list[str]) -> str:
    """All faults as one message."""
    return "\n".join(
        [f"{len(faults)} faulty shows (features: on_error: skip goes on without them):", *faults]
    )
