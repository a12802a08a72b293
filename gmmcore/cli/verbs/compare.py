"""Compare two mixtures, whatever their formats.

Example: gmmcore compare ubm.h5 other.gmm
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gmmcore.cli.verbs._common import add_reading, explained, read_any
from gmmcore.errors import GmmcoreError

if TYPE_CHECKING:
    from gmmcore.core.mixture import GaussianMixture

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("first", metavar="A")
    parser.add_argument("second", metavar="B")
    parser.add_argument("--shards", nargs="+", default=[], help="compare log-likelihoods on these")
    parser.add_argument(
        "--features", nargs="+", default=[], help="or on these feature files, as they are"
    )
    parser.add_argument(
        "--tolerance", type=float, help="end with an error if something differs by more"
    )
    add_reading(parser)


def run(arguments: argparse.Namespace) -> None:
    """Print the differences, and raise an error if they exceed the tolerance."""
    from gmmcore.core.describe import difference

    paths = (arguments.first, arguments.second)
    mixtures = [read_any(path, arguments) for path in paths]
    for path, mixture in zip(paths, mixtures, strict=True):
        kind = "full" if mixture.is_full else "diagonal"
        print(f"{path}: {mixture.components} {kind} components of dimension {mixture.dimension}")
    largest = 0.0
    if mixtures[0].means.shape == mixtures[1].means.shape:
        found = difference(*mixtures)
        largest = found.largest
        print(f"weights: largest difference {found.weights:.3g}")
        print(f"means: largest difference {found.means:.3g} standard deviations")
        print(f"covariances: largest relative difference {found.covariances:.3g}")
    elif mixtures[0].dimension != mixtures[1].dimension or arguments.tolerance is not None:
        raise GmmcoreError(
            f"{paths[1]}: not of the size of {paths[0]}; nothing can be compared one by one"
        )
    if arguments.shards or arguments.features:
        largest = max(largest, _compare_likelihoods(arguments, paths, mixtures))
    if arguments.tolerance is not None and not largest <= arguments.tolerance:
        raise GmmcoreError(
            f"{paths[1]}: differs from {paths[0]} by {largest:.3g}, "
            f"more than {arguments.tolerance:.3g}"
        )


def _compare_likelihoods(
    arguments: argparse.Namespace, paths: tuple[str, str], mixtures: list[GaussianMixture]
) -> float:
    from gmmcore.core.estep import accumulate
    from gmmcore.core.frames import ArraySource, FrameSource
    from gmmcore.data.shards import Shard
    from gmmcore.interfaces.sidekit_server import FeaturesServer

    sources: list[tuple[str, FrameSource]] = [(path, Shard(path)) for path in arguments.shards]
    server = FeaturesServer()
    for path in arguments.features:
        frames = server.load(Path(path).stem, input_feature_filename=path)[0]
        sources.append((path, ArraySource(frames)))
    totals, count = [0.0, 0.0], 0
    for path, source in sources:
        with explained(path):
            for index, mixture in enumerate(mixtures):
                if source.dimension != mixture.dimension:
                    raise GmmcoreError(
                        f"{path}: frames of dimension {source.dimension}, the mixtures have "
                        f"{mixture.dimension}"
                    )
                totals[index] += accumulate(mixture, source).log_likelihood
        count += source.frames
    if not count:
        raise GmmcoreError(f"{sources[0][0]}: no frames to compare log-likelihoods on")
    first, second = (total / count for total in totals)
    for path, value in zip(paths, (first, second), strict=True):
        print(f"log-likelihood per frame of {count}: {value:.6f} {path}")
    print(f"difference: {second - first:+.3g}")
    return abs(second - first)
