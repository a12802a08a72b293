"""Read a mixture in any format and write it in another.

Example: gmmcore convert ubm.h5 final.dubm
"""

from __future__ import annotations

import argparse

from gmmcore.cli.verbs._common import add_reading, read_any
from gmmcore.files import WRITTEN

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("input", metavar="IN")
    parser.add_argument("output", metavar="OUT")
    parser.add_argument(
        "--format",
        help=f"of OUT, one of {', '.join(WRITTEN)}; by its extension if not given",
    )
    parser.add_argument(
        "--output-prefix",
        metavar="PREFIX",
        help="add the mixture under this prefix to OUT, a SIDEKIT file that may exist",
    )
    add_reading(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write the converted mixture."""
    from gmmcore.errors import GmmcoreError
    from gmmcore.formats.hdf5 import write_hdf5
    from gmmcore.formats.registry import format_to_write

    format = format_to_write(arguments.output, arguments.format)
    if arguments.output_prefix is not None and format.name != "sidekit":
        raise GmmcoreError(f"--output-prefix: {format.title} has no prefixes, only SIDEKIT HDF5")
    mixture = read_any(arguments.input, arguments)
    if arguments.output_prefix is not None:
        write_hdf5(arguments.output, mixture, prefix=arguments.output_prefix, mode="a")
    else:
        format.write(arguments.output, mixture)
    kind = "full" if mixture.is_full else "diagonal"
    print(
        f"{arguments.output}: {format.title}, {mixture.components} {kind} components of "
        f"dimension {mixture.dimension}"
    )
