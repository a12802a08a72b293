"""Say what a mixture file holds.

Example: gmmcore info ubm.h5
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gmmcore.cli.verbs._common import add_reading, read_any

if TYPE_CHECKING:
    from gmmcore.core.history import HistoryEntry

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("mixture", metavar="MODEL")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_reading(parser)


def run(arguments: argparse.Namespace) -> None:
    """Print what the file holds."""
    from gmmcore.core.describe import describe
    from gmmcore.core.history import history_table
    from gmmcore.files import read_bytes
    from gmmcore.formats.base import MAX_BYTES
    from gmmcore.formats.hdf5 import is_sealed
    from gmmcore.formats.registry import format_of

    path = arguments.mixture
    content = read_bytes(path, MAX_BYTES)
    format = format_of(path, content)
    mixture = read_any(path, arguments)
    report: dict[str, Any] = {"file": path, "format": format.title, "bytes": len(content)}
    report |= describe(mixture)
    history: Sequence[HistoryEntry] = ()
    if format.name == "sidekit":
        from gmmcore.formats.hdf5 import load_model, prefixes

        report["prefixes"] = prefixes(path, content)
        if is_sealed(content) and "" in report["prefixes"]:
            model = load_model(path)
            report["digest"] = model.digest
            report["provenance"] = model.facts
            history = model.history
    if arguments.json:
        # JSON has no NaN, which the gain of a stage's first iteration is.
        rows = [
            {name: None if value != value else value for name, value in asdict(entry).items()}
            for entry in history
        ]
        print(json.dumps({**report, "history": rows}, indent=2, allow_nan=False))
        return
    print("\n".join(_lines(report)))
    if history:
        print("\nhistory:")
        print(history_table(history), end="")


def _lines(report: dict[str, Any]) -> list[str]:
    def of(name: str) -> str:
        return f"{report[name]:.6g} (component {report[f'{name}_component']})"

    lines = [
        f"{report['file']}: {report['format']}, {report['bytes']} bytes",
        f"{report['components']} {report['covariances']} components of dimension "
        f"{report['dimension']}, {report['parameters']} free parameters",
        f"weights: {report['weight_smallest']:.6g} to {report['weight_largest']:.6g}, entropy "
        f"{report['weight_entropy']:.4f} (as {report['weights_effective']:.1f} equal components)",
        f"smallest variance: {of('variance_smallest')}",
        f"largest variance: {of('variance_largest')}",
        f"condition number: {report['condition_median']:.4g} median, {of('condition_largest')}",
        f"variance control: {'yes' if report['variance_control'] else 'none'}",
    ]
    if "prefixes" in report:
        lines.append("prefixes: " + ", ".join(repr(name) for name in report["prefixes"]))
    if "digest" in report:
        lines.append(f"digest: {report['digest']} (verified)")
        lines += [f"{name}: {value}" for name, value in sorted(report["provenance"].items())]
    return lines
