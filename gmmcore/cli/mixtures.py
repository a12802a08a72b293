"""Verbs that look at mixtures, whatever their formats."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gmmcore.cli.verb import INPUT_FORMAT, OUTPUT, PREFIX, argument, verb
from gmmcore.core.describe import describe, difference
from gmmcore.core.estep import accumulate
from gmmcore.core.frames import ArraySource, FrameSource
from gmmcore.core.history import HistoryEntry, history_table
from gmmcore.core.mixture import GaussianMixture
from gmmcore.data.shards import Shard
from gmmcore.errors import GmmcoreError, counted, explained
from gmmcore.files import MIXTURE_FILES, WRITTEN, read_bytes, replace_text
from gmmcore.formats.base import MAX_BYTES
from gmmcore.formats.hdf5 import is_sealed, load_model, prefixes, write_hdf5
from gmmcore.formats.registry import decode_mixture, format_of, format_to_write, read_mixture
from gmmcore.formats.statserver import convert_rows, is_rows
from gmmcore.interfaces.sidekit_server import FeaturesServer

# What `info` says in other words, or what only the next iteration needs; `--json` has it all.
_TOLD = "stage components iteration level log_likelihood gain held_out"


@verb(argument("--mixture", required=True, help="a mixture that gmmcore trained"), OUTPUT)
def history(arguments: argparse.Namespace) -> None:
    """Write the iterations that led to a mixture as a table.

    Example: gmmcore history --mixture ubm.h5 --output history.tsv
    """
    replace_text(arguments.output, history_table(load_model(arguments.mixture).history))


@verb(
    argument("input", metavar="IN"),
    argument("output", metavar="OUT"),
    argument(
        "--output-format",
        help=f"of OUT, one of {', '.join(WRITTEN)}; by its extension if not given",
    ),
    argument(
        "--output-prefix",
        metavar="PREFIX",
        help="add the mixture under this prefix to OUT, a SIDEKIT file that may exist",
    ),
    INPUT_FORMAT,
    PREFIX,
)
def convert(arguments: argparse.Namespace) -> None:
    """Read a mixture in any format and write it in another; or statistics for ALIZE or Kaldi.

    Example: gmmcore convert ubm.h5 final.dubm
             gmmcore convert results/demo/statistics/test.h5 test.matx
    """
    if is_rows(arguments.input):
        print(", ".join(map(str, convert_rows(arguments.input, arguments.output))))
        return
    format = format_to_write(arguments.output, arguments.output_format)
    if arguments.output_prefix is not None and format.name != "sidekit":
        raise GmmcoreError(f"--output-prefix: {format.title} has no prefixes, only SIDEKIT HDF5")
    mixture = read_mixture(arguments.input, prefix=arguments.prefix, format=arguments.input_format)
    if arguments.output_prefix is not None:
        write_hdf5(arguments.output, mixture, prefix=arguments.output_prefix, mode="a")
    else:
        format.write(arguments.output, mixture)
    print(f"{arguments.output}: {format.title}, {_size(mixture)}")


@verb(
    argument("mixture", metavar="MODEL"),
    argument("--json", action="store_true", help="print one JSON object"),
    INPUT_FORMAT,
    PREFIX,
)
def info(arguments: argparse.Namespace) -> None:
    """Say what a mixture file holds.

    Example: gmmcore info ubm.h5
    """
    path = arguments.mixture
    history: Sequence[HistoryEntry] = ()
    content = read_bytes(path, MAX_BYTES)
    format = format_of(path, content, arguments.input_format)
    mixture = decode_mixture(path, content, prefix=arguments.prefix, format=format.name)
    report: dict[str, Any] = {"file": path, "format": format.title, "bytes": len(content)}
    report |= describe(mixture)
    if format.name == "sidekit":
        report["prefixes"] = prefixes(path, content)
        if is_sealed(content) and "" in report["prefixes"]:
            model = load_model(path)
            report |= {"digest": model.digest, "provenance": model.facts}
            history = model.history
    if arguments.json:
        # JSON has no NaN, which the gain of a stage's first iteration is.
        rows = [
            {name: None if value != value else value for name, value in asdict(entry).items()}
            for entry in history
        ]
        print(json.dumps({**report, "history": rows}, indent=2, allow_nan=False))
        return
    print("\n".join(_lines(report, history)))
    if history:
        print(f"\nhistory:\n{history_table(history)}", end="")


def _lines(report: dict[str, Any], history: Sequence[HistoryEntry]) -> Iterator[str]:
    """Say first what most people look for; digests and what only a program reads come last."""

    def of(name: str) -> str:
        return f"{report[name]:.6g} (component {report[f'{name}_component']})"

    yield f"{report['file']}: {report['format']}, {report['bytes']:,} bytes"
    yield (
        f"{report['components']} {report['covariances']} components of dimension "
        f"{report['dimension']}, {report['parameters']:,} free parameters"
    )
    if history:
        last = history[-1]
        held_out = "" if last.held_out != last.held_out else f", held-out {last.held_out:.6f}"
        yield (
            f"trained by {counted(len(history), 'iteration')}; before the last one, on "
            f"{last.frames:,} frames, log-likelihood per frame {last.log_likelihood:.6f}{held_out}"
        )
    yield (
        f"weights: {report['weight_smallest']:.6g} to {report['weight_largest']:.6g}, entropy "
        f"{report['weight_entropy']:.4f} (as {report['weights_effective']:.1f} equal components)"
    )
    yield f"smallest variance: {of('variance_smallest')}"
    yield f"largest variance: {of('variance_largest')}"
    yield f"condition number: {report['condition_median']:.4g} median, {of('condition_largest')}"
    yield f"variance control: {'yes' if report['variance_control'] else 'none'}"
    if any(report.get("prefixes", ())):
        yield "prefixes: " + ", ".join(repr(name) for name in report["prefixes"])
    if "digest" in report:
        yield f"digest: {report['digest']} (verified)"
        for name, value in report["provenance"].items():
            if value is not None and name not in _TOLD.split():
                yield f"{name}: {value}"


@verb(
    argument("first", metavar="A"),
    argument("second", metavar="B"),
    argument("--shards", nargs="+", default=[], help="compare log-likelihoods on these"),
    argument("--features", nargs="+", default=[], help="or on these feature files, as they are"),
    argument("--tolerance", type=float, help="end with an error if something differs by more"),
    argument(
        "--input-format",
        action="append",
        choices=("auto", *MIXTURE_FILES),
        metavar="NAME",
        help="of both mixtures, or given twice, of A and of B; auto, the default, looks into them",
    ),
    PREFIX,
)
def compare(arguments: argparse.Namespace) -> None:
    """Compare two mixtures, whatever their formats.

    Example: gmmcore compare ubm.h5 other.gmm
    """
    paths = (arguments.first, arguments.second)
    formats = arguments.input_format or ["auto"]
    if len(formats) > 2:
        raise GmmcoreError(f"--input-format: {len(formats)} formats for two mixtures; give 1 or 2")
    mixtures = [
        read_mixture(path, prefix=arguments.prefix, format=format)
        for path, format in zip(paths, (formats[0], formats[-1]), strict=True)
    ]
    for path, mixture in zip(paths, mixtures, strict=True):
        print(f"{path}: {_size(mixture)}")
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

    sources: dict[str, FrameSource] = {path: Shard(path) for path in arguments.shards}
    server = FeaturesServer()
    for path in arguments.features:
        frames = server.load(Path(path).stem, input_feature_filename=path)[0]
        sources[path] = ArraySource(frames)
    totals, count = [0.0, 0.0], 0
    for path, source in sources.items():
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
        raise GmmcoreError(f"{next(iter(sources))}: no frames to compare log-likelihoods on")
    first, second = (total / count for total in totals)
    for path, value in zip(paths, (first, second), strict=True):
        print(f"log-likelihood per frame of {count}: {value:.6f} {path}")
    print(f"difference: {second - first:+.3g}")
    return abs(second - first)


def _size(mixture: GaussianMixture) -> str:
    kind = "full" if mixture.is_full else "diagonal"
    return f"{mixture.components} {kind} components of dimension {mixture.dimension}"
