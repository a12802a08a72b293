"""Feature files in SIDEKIT's HDF5 layout."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gmmcore.files import replace_bytes

if TYPE_CHECKING:
    import h5py

__all__ = ["write_sidekit_show"]


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
        Its name, which is that of the group in the file.
    energy : ndarray, shape (F,)
    cep : ndarray, shape (F, D)
    speech : ndarray, shape (F,), bool
        The labels: dataset ``vad``.
    """
    from gmmcore.formats.image import hdf5_image

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
