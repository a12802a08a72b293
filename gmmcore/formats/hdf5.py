"""Model files: SIDEKIT's HDF5 layout behind a sealed header, with the history of the training.

The datasets at the root are those of SIDEKIT's ``Mixture.write``; SIDEKIT reads the file as it is.
The history is in the group ``gmmcore``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gmmcore.core.history import HistoryEntry, columns
from gmmcore.core.mixture import GaussianMixture
from gmmcore.errors import GmmcoreError
from gmmcore.files import PathLike, read_bytes
from gmmcore.formats.base import MAX_BYTES, Format, ReadOptions, refuse
from gmmcore.formats.image import hdf5_image, open_image
from gmmcore.formats.sealed import is_sealed, seal, unseal, unseal_bytes
from gmmcore.formats.sidekit_layout import (
    FORMAT,
    get_mixture,
    in_file,
    largest_array,
    prefixes_in,
    put_mixture,
)

if TYPE_CHECKING:
    import h5py

__all__ = [
    "FORMATS",
    "Model",
    "load_model",
    "prefixes",
    "read_hdf5",
    "save_model",
    "write_hdf5",
]

KIND = "mixture"
GROUP = "gmmcore"

_TYPES: dict[str, str] = {"str": "S16", "int": "<i8", "float": "<f8"}
HISTORY_TYPE = np.dtype([(f.name, _TYPES[str(f.type)]) for f in fields(HistoryEntry)])


@dataclass(frozen=True)
class Model:
    """A mixture with its provenance.

    Attributes
    ----------
    mixture : GaussianMixture
    facts : dict
        Those that `save_model` was given: run, stage, components, iteration, digest of the parent.
    history : tuple of HistoryEntry
        The iterations that led to the mixture.
    digest : str
        SHA-256 of the file's content, 64 hexadecimal digits.
    """

    mixture: GaussianMixture
    facts: dict[str, Any]
    history: tuple[HistoryEntry, ...]
    digest: str


def save_model(
    path: PathLike,
    mixture: GaussianMixture,
    facts: Mapping[str, Any],
    history: Sequence[HistoryEntry] = (),
    *,
    compress: bool = False,
) -> str:
    """Write a mixture with its provenance; equal arguments give equal bytes.

    Parameters
    ----------
    path
        The file to write, whole or not at all.
    mixture
        The parameters.
    facts
        Small JSON values; `gmmcore.formats.sealed.sealed_facts` gives them back without HDF5.
    history
        The iterations that led to the mixture.
    compress
        Use gzip and fletcher32, as SIDEKIT does; takes seconds for large full mixtures.

    Returns
    -------
    str
        The file's digest.
    """

    def build(file: h5py.File) -> None:
        put_mixture(file, mixture, "", compress)
        names = columns(history)
        rows = [tuple(getattr(entry, name) for name in names) for entry in history]
        for entry in history:
            if max(len(entry.stage), len(entry.action)) > 16:
                raise ValueError(f"a history entry holds a word of more than 16 letters: {entry}")
        file.create_group(GROUP)["history"] = np.array(rows, dtype=_type_of(names))

    return seal(path, KIND, hdf5_image(build), **facts)


def load_model(path: PathLike) -> Model:
    """Read and verify a file that `save_model` wrote.

    Raises
    ------
    DamagedFileError
        If the file is truncated or altered.
    GmmcoreError
        If it is missing or holds something else.
    """
    facts, content = unseal(path, KIND)
    digest = facts.pop("digest")
    with open_image(path, content) as file:
        mixture = get_mixture(path, file, "", largest_array(len(content), True))
        history: tuple[HistoryEntry, ...] = ()
        if GROUP in file:
            table = in_file(path, file, f"{GROUP}/history")
            # Earlier versions had other columns too, or fewer.
            kept = [name for name in HISTORY_TYPE.names or () if name in (table.dtype.names or ())]
            is_known = bool(kept) and all(table.dtype[n] == HISTORY_TYPE[n] for n in kept)
            if not is_known or table.ndim != 1 or table.nbytes > len(content):
                refuse(path, FORMAT, "its history is not one that this version of gmmcore writes")
            rows = np.zeros(len(table), HISTORY_TYPE)
            rows["step"], rows["held_out"] = b"plain", np.nan
            for name in kept:
                rows[name] = table[name]
            entries: list[Any] = rows.tolist()
            history = tuple(_entry(row) for row in entries)
    return Model(mixture, facts, history, digest)


def read_hdf5(path: PathLike, content: bytes, *, prefix: str = "") -> GaussianMixture:
    """Decode a mixture in SIDEKIT's layout.

    Parameters
    ----------
    path
        For messages.
    content
        The whole file; the checksum of a sealed one is verified.
    prefix
        What the names of the datasets begin with.

    Raises
    ------
    GmmcoreError
        If there is no such mixture, or it is damaged or invalid.
    """
    image = _image(path, content)
    with open_image(path, image) as file:
        return get_mixture(path, file, prefix, largest_array(len(image), is_sealed(content)))


def write_hdf5(
    path: PathLike, mixture: GaussianMixture, *, prefix: str = "", mode: str = "w"
) -> None:
    """Write a mixture as SIDEKIT does, with gzip and fletcher32.

    Parameters
    ----------
    path
        The file to write.
    mixture
        The parameters.
    prefix
        What the names of the datasets begin with.
    mode
        ``w`` for a new file, ``a`` to add to one that exists: several mixtures
        share a file under different prefixes.

    Raises
    ------
    GmmcoreError
        If the existing file cannot be added to, or holds a mixture of this prefix.
    """
    if mode not in ("w", "a"):
        raise GmmcoreError(f"{path}: mode {mode!r} is not possible, use 'w' or 'a'")
    if mode == "w" or not Path(path).exists():
        seal(path, KIND, hdf5_image(lambda file: put_mixture(file, mixture, prefix, True)))
        return
    content = read_bytes(path, MAX_BYTES)
    facts = unseal_bytes(path, KIND, content)[0] if is_sealed(content) else {}
    facts.pop("digest", None)
    with open_image(path, _image(path, content), writable=True) as file:
        if prefix + "w" in file:
            raise GmmcoreError(
                f"{path}: already holds a mixture with the prefix {prefix!r}; use another"
            )
        put_mixture(file, mixture, prefix, True)
        file.flush()
        image = file.id.get_file_image()
    seal(path, KIND, image, **facts)


def prefixes(path: PathLike, content: bytes) -> list[str]:
    """The prefixes under which a model file holds mixtures, sorted."""
    with open_image(path, _image(path, content)) as file:
        return prefixes_in(file)


def _image(path: PathLike, content: bytes) -> bytes:
    """The HDF5 file in the content of a model file; what gmmcore sealed is verified."""
    return unseal_bytes(path, KIND, content)[1] if is_sealed(content) else content


def _type_of(names: Sequence[str]) -> np.dtype[Any]:
    return np.dtype([(name, HISTORY_TYPE[name]) for name in names])


def _entry(row: tuple[Any, ...]) -> HistoryEntry:
    values: list[Any] = [v.decode() if isinstance(v, bytes) else v for v in row]
    return HistoryEntry(*values)


def _recognises(content: bytes) -> bool:
    # A user block before the signature may have any of these sizes, and larger ones.
    return is_sealed(content) or any(
        content[at : at + 8] == b"\x89HDF\r\n\x1a\n" for at in (0, 512, 1024, 2048, 4096)
    )


def _decode(path: PathLike, content: bytes, options: ReadOptions) -> GaussianMixture:
    return read_hdf5(path, content, prefix=options.prefix)


FORMATS = (
    Format("sidekit", FORMAT, (".h5", ".hdf5", ".sidekit"), _recognises, _decode, write_hdf5),
)
