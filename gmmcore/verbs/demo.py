"""Make the demonstration corpus."""

from __future__ import annotations

import argparse
from pathlib import Path

from gmmcore.verbs.common import add_settings, settings_of

__all__ = ["DEFAULTS", "configure", "run"]

DEFAULTS = {
    "components": 64,
    "dimension": 20,
    "shows": 40,
    "speakers": 10,
    "frames": 120_000,
    "offset": 0.1,
    "persistence": 0.8,
    "correlation": 0.5,
    "seed": 1,
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--output", required=True, help="the folder to write")
    parser.add_argument("--recipe", help="a word for the list's first line, to recognise it by")
    add_settings(parser, ", ".join(DEFAULTS))


def run(arguments: argparse.Namespace) -> None:
    """Write the shows as SIDEKIT feature files, their list, and the mixture they follow."""
    import numpy as np

    from gmmcore.demo.synthetic import draw_shows, known_mixture
    from gmmcore.features.writing import write_list, write_sidekit_show
    from gmmcore.formats.hdf5 import save_model

    settings = settings_of(arguments, DEFAULTS)
    folder = Path(arguments.output)
    rng = np.random.default_rng(settings["seed"])
    mixture = known_mixture(rng, settings["components"], settings["dimension"])
    truth, shows = draw_shows(rng, mixture, settings)
    save_model(folder / "truth.h5", truth, {"stage": "truth"}, compress=True)
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
    # The list comes last: where it is, everything is.
    write_list(folder / "shows.txt", names, arguments.recipe)
    print(
        f"demonstration corpus: {len(names)} shows, {total} frames ({settings['frames']} of "
        f"speech) from {settings['components']} known components"
    )
