"""Write the SHA-256 of the final files of a run.

Example: gmmcore checksums results/demo/ubm.h5 --output results/demo/SHA256SUMS
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("files", metavar="FILE", nargs="+", help="all below the folder of --output")
    parser.add_argument("--output", required=True)


def run(arguments: argparse.Namespace) -> None:
    """Write a file that ``sha256sum -c`` reads."""
    from gmmcore.files import replace_text
    from gmmcore.workflow.resume import checksums

    output = Path(arguments.output)
    names = [os.path.relpath(name, output.parent) for name in arguments.files]
    replace_text(output, checksums(output.parent, names))
