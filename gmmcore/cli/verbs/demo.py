"""Make the demonstration corpus.

Example: gmmcore demo --components 16 --output corpus
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gmmcore.config.demo import DemoSettings
from gmmcore.config.options import add_options, options_of

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""

    parser.add_argument("--output", required=True, help="the folder to write")
    parser.add_argument("--recipe", help="a word for the list's first line, to recognise it by")
    parser.add_argument("--seed", type=int, default=1)
    add_options(parser, DemoSettings)


def run(arguments: argparse.Namespace) -> None:
    """Write the shows as SIDEKIT feature files, their list, and the mixture of their speech."""
    import numpy as np

    from gmmcore.data.demo.synthetic import draw_shows, known_mixture
    from gmmcore.data.writing import write_list, write_sidekit_show
    from gmmcore.formats.hdf5 import save_model

    settings = options_of(arguments, DemoSettings)
    folder = Path(arguments.output)
    rng = np.random.default_rng(arguments.seed)
    mixture = known_mixture(rng, settings.components, settings.dimension)
    truth, shows = draw_shows(rng, mixture, settings)
    save_model(
        folder / "truth.h5", truth, {"stage": "truth", "recipe": arguments.recipe}, compress=True
    )
    names, total = [], 0
    for show in shows:
        write_sidekit_show(
            folder / f"{show.name}.h5",
            show.name,
            show.frames[:, 0],
            show.frames[:, 1:],
            show.speech,
        )
        names.append(show.name)
        total += len(show.frames)
    # The list is written last: if it exists, everything does.
    write_list(folder / "shows.txt", names, arguments.recipe)
    print(
        f"demonstration corpus: {len(names)} shows, {total} frames ({settings.frames} of "
        f"speech) from {settings.components} known components"
    )
