"""Write history and plots of a training as one HTML page.

Example: gmmcore report --mixture ubm.h5 --output report.html
"""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--mixture", required=True, help="a mixture that gmmcore trained")
    parser.add_argument("--output", required=True)


def run(arguments: argparse.Namespace) -> None:
    """Write the HTML page."""
    from gmmcore.files import replace_text
    from gmmcore.formats.hdf5 import load_model
    from gmmcore.report import report_page

    model = load_model(arguments.mixture)
    title = Path(arguments.mixture).resolve().parent.name
    replace_text(arguments.output, report_page(model.mixture, model.history, title))
