"""Compare finished trainings in a table.

Example: gmmcore comparison --mixtures results/a/ubm.h5 results/b/ubm.h5 --corpora a.json b.json
         --settings '{"a": {}, "b": {}}' --output comparison.tsv
"""

from __future__ import annotations

import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--mixtures", nargs="+", required=True, help="final ones, of each run")
    parser.add_argument("--corpora", nargs="+", required=True, help="corpus.json of each run")
    parser.add_argument(
        "--held-out", nargs="+", help="corpus.json of the held-out frames of each run, or -"
    )
    parser.add_argument("--settings", required=True, help="the configurations by run, as JSON")
    parser.add_argument("--threads", type=int, default=1, help="do not change the result")
    parser.add_argument("--output", required=True, help="tab-separated text")


def run(arguments: argparse.Namespace) -> None:
    """Write the table."""
    import json
    from functools import cache
    from pathlib import Path
    from typing import Any

    from gmmcore.config.configuration import resolve
    from gmmcore.data.corpus import Corpus
    from gmmcore.data.sample import sample_frames
    from gmmcore.files import replace_text
    from gmmcore.report.compare import comparison_table
    from gmmcore.report.report import read_outcome

    @cache
    def frames(path: str) -> tuple[Corpus, Any]:
        corpus = Corpus.read(path)
        return corpus, sample_frames(corpus, path)

    outcomes = [
        read_outcome(
            Path(final),
            [final],
            *frames(corpus),
            resolve(values, f"--settings: {name}"),
            None if held_out == "-" else frames(held_out)[1],
            threads=arguments.threads,
        )
        for final, corpus, held_out, (name, values) in zip(
            arguments.mixtures,
            arguments.corpora,
            arguments.held_out or ["-"] * len(arguments.mixtures),
            json.loads(arguments.settings).items(),
            strict=True,
        )
    ]
    replace_text(arguments.output, comparison_table(outcomes))
