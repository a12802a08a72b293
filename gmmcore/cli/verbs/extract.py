"""Compute features of audio files.

Example: gmmcore extract --audio recordings --output features
"""

from __future__ import annotations

import argparse

from gmmcore.config.features import AudioSettings
from gmmcore.config.options import add_options, options_of

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--audio",
        required=True,
        help="a list of shows (text, TSV, scp) or a folder of wav and flac",
    )
    parser.add_argument(
        "--output", required=True, help="folder for the feature files and their list, shows.txt"
    )
    parser.add_argument("--recipe", help="a word for the list's first line, to recognise it by")
    parser.add_argument("--pattern", help='audio file of a show, such as "{show}.wav"')
    parser.add_argument("--root", help="folder that relative paths start from")
    add_options(parser, AudioSettings)


def run(arguments: argparse.Namespace) -> None:
    """Compute the features and write them."""
    from gmmcore.data.extraction import extract

    count = extract(
        arguments.audio,
        arguments.output,
        options_of(arguments, AudioSettings),
        arguments.pattern,
        arguments.root,
        arguments.recipe,
    )
    print(f"{count} shows")
