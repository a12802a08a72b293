"""Verbs of speaker verification: statistics of shows, models, and scores of trials."""

from __future__ import annotations

import argparse
import sys

from gmmcore.cli.verb import OUTPUT, THREADS, argument, options, stamp, verb
from gmmcore.config.keys import FeatureSettings
from gmmcore.config.options import options_of
from gmmcore.data.score import Shows
from gmmcore.data.trials import make_models, make_scores, make_statistics
from gmmcore.errors import counted, explained
from gmmcore.files import read_json

_MIXTURE = argument("--mixture", required=True, help="the mixture, of any format")
_STATISTICS = argument("--statistics", nargs="+", required=True, help="files of `statistics`")
_PRECISION = argument("--precision", choices=["single", "double"], default="single")


@verb(_MIXTURE, _PRECISION, THREADS, OUTPUT, options(FeatureSettings), stamp("features"))
def statistics(arguments: argparse.Namespace) -> None:
    """Compute Baum-Welch statistics of each show of a list; the file is a StatServer of SIDEKIT.

    Example: gmmcore statistics --list test.txt --mixture ubm.h5 --output test.h5
    """
    shows = Shows(options_of(arguments, FeatureSettings).for_run(None))
    names = make_statistics(
        arguments.output, arguments.mixture, shows, arguments.precision, arguments.threads
    )
    _warn(shows)
    print(f"{arguments.output}: statistics of {counted(len(names), 'show')}")


@verb(
    _MIXTURE,
    _STATISTICS,
    argument("--enrolment", help="a text with lines `model show`"),
    argument("--relevance", type=float, default=16.0),
    OUTPUT,
    stamp("verification"),
)
def adapt(arguments: argparse.Namespace) -> None:
    """Adapt the means of a mixture to the shows of each model; the file is a StatServer of SIDEKIT.

    Example: gmmcore adapt --mixture ubm.h5 --statistics a.h5 --enrolment e.txt --output models.h5
    """
    with explained("--relevance"):
        names = make_models(
            *(arguments.output, arguments.mixture, arguments.statistics),
            *(arguments.enrolment, arguments.relevance),
        )
    print(f"{arguments.output}: {counted(len(names), 'model')}")


@verb(
    _MIXTURE,
    argument("--models", required=True, help="file of `adapt`"),
    _STATISTICS,
    argument("--trials", help="a text with lines `model show`, and target or nontarget"),
    argument("--features", nargs="*", help="source.json of each list, for exact ratios"),
    _PRECISION,
    THREADS,
    argument("--matrix", required=True, help="the scores as SIDEKIT's Scores file"),
    OUTPUT,
    stamp("verification"),
)
def trials(arguments: argparse.Namespace) -> None:
    """Score trials of models and shows, and tell the equal error rate if they have labels.

    Example: gmmcore trials --mixture ubm.h5 --models models.h5 --statistics a.h5 --trials t.txt
             --matrix scores.h5 --output scores.tsv
    """
    lists = [
        Shows(FeatureSettings.from_mapping(read_json(source)["features"]))
        for source in arguments.features or ()
    ]
    with explained(arguments.trials):
        line = make_scores(
            *(arguments.output, arguments.matrix, arguments.mixture, arguments.models),
            *(arguments.statistics, arguments.trials, lists),
            *(arguments.precision, arguments.threads),
        )
    for shows in lists:
        _warn(shows)
    print(f"{arguments.output}: {line}")


def _warn(shows: Shows) -> None:
    for fault in shows.faults:
        print(f"warning: skipped: {fault.line()}", file=sys.stderr)
