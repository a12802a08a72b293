"""Write the report of a training: plots, sizes, cautions and provenance as one HTML page.

Example: gmmcore report --mixture results/demo/ubm.h5 --stages results/demo/diag/64.h5
         --corpus results/features/<id>/corpus.json --settings '{}' --output report.html
"""

from __future__ import annotations

import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--mixture", required=True, help="the final mixture")
    parser.add_argument(
        "--stages", nargs="+", required=True, help="the last mixtures of the stages"
    )
    parser.add_argument("--corpus", required=True, help="corpus.json; the shards lie beside it")
    parser.add_argument("--held-out", help="corpus.json of the held-out frames")
    parser.add_argument("--settings", required=True, help="the configuration of the run, as JSON")
    parser.add_argument("--logs", default="logs", help="folder of the run's benchmarks")
    parser.add_argument("--threads", type=int, default=1, help="do not change the result")
    parser.add_argument("--output", required=True)


def run(arguments: argparse.Namespace) -> None:
    """Write the page."""
    import json
    import sys
    from pathlib import Path

    from gmmcore.config.configuration import resolve
    from gmmcore.data.corpus import Corpus
    from gmmcore.data.sample import sample_frames
    from gmmcore.data.table import ShowTable
    from gmmcore.files import read_bytes, replace_text
    from gmmcore.report.plots import CAN_DRAW
    from gmmcore.report.report import read_outcome, report_page

    if not CAN_DRAW:
        print(
            "warning: Altair and vl-convert are not installed, so that the page has no plots: "
            "pip install 'gmmcore[plot]', then remove the page and give the same command again",
            file=sys.stderr,
        )
    settings = resolve(json.loads(arguments.settings), "--settings")
    corpus = Corpus.read(arguments.corpus)
    held_out = None
    if arguments.held_out:
        held_out = sample_frames(Corpus.read(arguments.held_out), arguments.held_out)
    outcome = read_outcome(
        Path(arguments.mixture),
        arguments.stages,
        corpus,
        sample_frames(corpus, arguments.corpus),
        settings,
        held_out,
        Path(arguments.logs),
        arguments.threads,
    )
    folder = Path(arguments.corpus).parent
    lines = read_bytes(folder / "skipped.tsv").decode().splitlines()[1:]
    skipped = [line.split("\t")[:3] for line in lines]
    page = report_page(outcome, ShowTable.read(folder / "shows.tsv"), skipped)
    replace_text(arguments.output, page)
