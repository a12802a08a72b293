"""Writing features in SIDEKIT's HDF5 layout, and their list."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gmmcore.files import PathLike, read_bytes, replace_bytes, replace_text

if TYPE_CHECKING:
    import h5py

__all__ = ["recipe_of", "write_list", "write_sidekit_show"]

_RECIPE = "# recipe "


def write_sidekit_show(
    path: str | os.PathLike[str],
    show: str,
    energy: npt.NDArray[np.floating],
    cep: npt.NDArray[np.floating],
    speech: npt.NDArray[np.bool_],
) -> None:
    """Write one show, not compressed, as SIDEKIT's ``write_hdf5`` does.

    Parameters
    ----------
    path
        The file to write, whole or not at all.
    show
        Name of the show, and of its group in the file.
    energy : ndarray, shape (F,)
        Log-energy of each frame.
    cep : ndarray, shape (F, D)
        Cepstral coefficients of each frame.
    speech : ndarray, shape (F,), bool
        Voice-activity labels, which are written to the dataset ``vad``.
    """
    from gmmcore.formats.hdf5 import hdf5_image

    def build(file: h5py.File) -> None:
        file["compression"] = np.int64(0)
        group = file.create_group(show)
        for name, values in (("cep", cep), ("energy", energy)):
            values = values.astype(np.float32)
            group[name] = values
            chosen = values[speech] if speech.any() else values
            group[f"{name}_mean"] = chosen.mean(axis=0, dtype=np.float64).astype(np.float32)
            group[f"{name}_std"] = chosen.std(axis=0, dtype=np.float64).astype(np.float32)
        group["vad"] = speech.astype(np.int8)

    replace_bytes(path, hdf5_image(build, user_block=0))


def write_list(path: PathLike, shows: Iterable[str], recipe: str | None) -> None:
    """Write a list of shows; if there is a `recipe`, the first line is a comment with it."""
    head = [f"{_RECIPE}{recipe}"] if recipe else []
    replace_text(path, "\n".join([*head, *shows]) + "\n")


def recipe_of(path: PathLike) -> tuple[str | None, list[str]]:
    """Read a list that `write_list` wrote: its recipe, or None, and its shows.

    Raises
    ------
    GmmcoreError
        If the list cannot be read.
    """
    first, *shows = read_bytes(path).decode(errors="replace").splitlines() or [""]
    if not first.startswith(_RECIPE):
        return None, [first, *shows] if first else shows
    return first.removeprefix(_RECIPE), shows
