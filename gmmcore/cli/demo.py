"""Verbs of the demonstration, whose answer is known."""

from __future__ import annotations

import argparse

from gmmcore.cli.verb import CORPUS, OUTPUT, argument, options, stamp, verb
from gmmcore.config.keys import DemoSettings
from gmmcore.config.options import options_of
from gmmcore.data.corpus import Corpus, CorpusFrames
from gmmcore.data.demo import recovery_text, write_corpus
from gmmcore.errors import explained
from gmmcore.files import replace_text
from gmmcore.formats.hdf5 import load_model


@verb(
    argument("--output", required=True, help="the folder to write"),
    argument("--recipe", help="a word for the list's first line, to recognise it by"),
    argument("--seed", type=int, default=1),
    options(DemoSettings),
    stamp("demo"),
)
def demo(arguments: argparse.Namespace) -> None:
    """Make the demonstration corpus.

    Example: gmmcore demo --components 16 --output corpus
    """
    settings = options_of(arguments, DemoSettings)
    frames = write_corpus(arguments.output, settings, arguments.seed, arguments.recipe)
    print(
        f"demonstration corpus: {settings.shows} shows, {frames} frames ({settings.frames} of "
        f"speech) from {settings.components} known components"
    )


@verb(argument("--truth", required=True), argument("--mixture", required=True), CORPUS, OUTPUT)
def recovery(arguments: argparse.Namespace) -> None:
    """Compare a trained mixture with the known one.

    Example: gmmcore recovery --truth truth.h5 --mixture ubm.h5 --corpus corpus.json --output r.txt
    """
    truth, mixture = (load_model(p).mixture for p in (arguments.truth, arguments.mixture))
    frames = CorpusFrames(Corpus.read(arguments.corpus), arguments.corpus).at(0)
    with explained(arguments.mixture):
        text = recovery_text(truth, mixture, frames)
    replace_text(arguments.output, text)
    print(text, end="")
