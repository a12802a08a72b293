"""Model files: SIDEKIT's HDF5 layout, sealed, with the history of the training beside it.

The datasets at the root are those of SIDEKIT's ``Mixture.write``, so that SIDEKIT reads
the file as it is. The group ``gmmcore`` and the sealed header hold what we add.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gmmcore.errors import GmmcoreError
from gmmcore.files import is_sealed, read_bytes, seal, unseal, unseal_bytes
from gmmcore.formats.base import (
    MAX_BYTES,
    Format,
    ReadOptions,
    checked_mixture,
    checked_size,
    refuse,
)
from gmmcore.formats.image import change_image, hdf5_image, open_image
from gmmcore.history import HistoryEntry
from gmmcore.model import GaussianMixture

if TYPE_CHECKING:
    import h5py

__all__ = [
    "FORMATS",
    "Model",
    "constants",
    "load_model",
    "prefixes",
    "read_hdf5",
    "save_model",
    "write_hdf5",
]

Array = npt.NDArray[np.float64]
PathLike = str | os.PathLike[str]

KIND = "mixture"
FORMAT = "SIDEKIT HDF5"
GROUP = "gmmcore"
DERIVED = "gmmcore_derived"
"""Attribute of a ``cov_var_ctl`` that the mixture did not have: SIDEKIT cannot do without one."""

_TYPES: dict[str, str] = {"str": "S16", "int": "<i8", "float": "<f8"}
HISTORY_TYPE = np.dtype([(f.name, _TYPES[str(f.type)]) for f in fields(HistoryEntry)])

# Deflate cannot expand more than this: a claim beyond it is a lie about unwritten data.
_LARGEST_EXPANSION = 1032
_FILTERS = {1, 2, 3}  # deflate, shuffle, fletcher32


@dataclass(frozen=True)
class Model:
    """A mixture and where it comes from.

    Attributes
    ----------
    mixture : GaussianMixture
    facts : dict
        What `save_model` was given: run, stage, components, iteration, digest of the parent, ...
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
        Small JSON values; `gmmcore.files.sealed_facts` gives them back without HDF5.
    history
        The iterations that led to the mixture.
    compress
        With gzip and fletcher32, as SIDEKIT writes. Seconds for large full mixtures.

    Returns
    -------
    str
        The file's digest.
    """

    def build(file: h5py.File) -> None:
        _put(file, mixture, "", compress)
        rows = [astuple(entry) for entry in history]
        for entry in history:
            if max(len(entry.stage), len(entry.action)) > 16:
                raise ValueError(f"a history entry holds a word of more than 16 letters: {entry}")
        file.create_group(GROUP)["history"] = np.array(rows, dtype=HISTORY_TYPE)

    return seal(path, KIND, hdf5_image(build), **facts)


def load_model(path: PathLike) -> Model:
    """Read and verify what `save_model` wrote.

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
        mixture = _get(path, file, "", len(content))
        history: tuple[HistoryEntry, ...] = ()
        if GROUP in file:
            history = tuple(_entry(row) for row in file[GROUP]["history"][()].tolist())
    return Model(mixture, facts, history, digest)


def read_hdf5(path: PathLike, content: bytes, *, prefix: str = "") -> GaussianMixture:
    """The mixture in a SIDEKIT model file.

    Parameters
    ----------
    path
        Where `content` was read, for messages; of a sealed file the checksum is verified.
    content
        The whole file.
    prefix
        What the names of the datasets begin with.

    Raises
    ------
    GmmcoreError
        If there is no such mixture, or it is damaged or invalid.
    """
    if is_sealed(content):
        content = unseal_bytes(path, KIND, content)[1]
    with open_image(path, content) as file:
        return _get(path, file, prefix, len(content))


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
        seal(path, KIND, hdf5_image(lambda file: _put(file, mixture, prefix, True)))
        return
    facts: dict[str, Any] = {}
    content = read_bytes(path, MAX_BYTES)
    if is_sealed(content):
        facts, content = unseal_bytes(path, KIND, content)
        del facts["digest"]

    def add(file: h5py.File) -> None:
        if prefix + "w" in file:
            raise GmmcoreError(
                f"{path}: already holds a mixture with the prefix {prefix!r}; use another"
            )
        _put(file, mixture, prefix, True)

    seal(path, KIND, change_image(path, content, add), **facts)


def prefixes(path: PathLike, content: bytes) -> list[str]:
    """The prefixes under which a model file holds mixtures, sorted."""
    if is_sealed(content):
        content = unseal_bytes(path, KIND, content)[1]
    with open_image(path, content) as file:
        names = set(file)
        return sorted(
            name[:-2] for name in names if name.endswith("mu") and name[:-2] + "w" in names
        )


def constants(mixture: GaussianMixture) -> tuple[Array, Array, Array]:
    """SIDEKIT's ``cst``, ``det`` and ``a`` of a mixture, each of shape (C,), float64.

    The first two are plain numbers for those who look at them and overflow to infinity
    or 0 in high dimension; ``a`` comes from logarithms and is finite for positive weights.
    """
    log_constant = -0.5 * (mixture.dimension * math.log(2 * math.pi) + mixture.log_determinants)
    with np.errstate(over="ignore", under="ignore"):
        cst, det = np.exp(log_constant), np.exp(mixture.log_determinants)
    if mixture.is_full:
        return cst, det, np.zeros(mixture.components)
    a = (mixture.means**2 * mixture.precisions).sum(axis=1)
    return cst, det, a - 2.0 * (mixture.log_weights + log_constant)


def _put(file: h5py.File, mixture: GaussianMixture, prefix: str, compress: bool) -> None:
    control = mixture.variance_control
    derived = control is None
    if control is None:
        variances = mixture.covariances
        control = np.diagonal(variances, axis1=1, axis2=2) if mixture.is_full else variances
    cst, det, a = constants(mixture)
    values: dict[str, Array] = {
        "w": mixture.weights,
        "mu": mixture.means,
        "invcov": mixture.precisions,
        "invchol": mixture.precision_factors if mixture.is_full else np.empty(0),
        "cov_var_ctl": control,
        "cst": cst,
        "det": det,
        "a": a,
    }
    for name, value in values.items():
        options: dict[str, Any] = {}
        if compress:
            options = {
                "maxshape": (None,) * value.ndim,
                "compression": "gzip",
                "fletcher32": True,
            }
        file.create_dataset(prefix + name, data=value, **options)
    if derived:
        file[prefix + "cov_var_ctl"].attrs[DERIVED] = np.int8(1)


def _get(path: PathLike, file: h5py.File, prefix: str, size: int) -> GaussianMixture:
    def need(name: str, accept: Callable[[tuple[int, ...]], bool], expected: str) -> Array:
        dataset = _dataset(path, file, prefix + name, size)
        if not accept(dataset.shape):
            refuse(
                path,
                FORMAT,
                f"{prefix + name} has shape {dataset.shape}, {expected} was expected",
            )
        return dataset[()]

    if prefix + "w" not in file:
        others = sorted(n[:-2] for n in file if n.endswith("mu") and n[:-2] + "w" in file)
        advice = f"; it has mixtures with the prefixes {others[:8]}" if others else ""
        refuse(path, FORMAT, f"it has no mixture with the prefix {prefix!r}{advice}")
    weights = need("w", lambda shape: len(shape) == 1, "(C,)")
    count = weights.size
    means = need("mu", lambda shape: len(shape) == 2 and shape[0] == count, f"({count}, D)")
    dimension = means.shape[1]
    checked_size(path, FORMAT, count, dimension)
    diagonal, full = (count, dimension), (count, dimension, dimension)
    precisions = need("invcov", lambda shape: shape in (diagonal, full), f"{diagonal} or {full}")
    control = None
    # SIDEKIT's own full files hold something of another shape here.
    if prefix + "cov_var_ctl" in file:
        dataset = _dataset(path, file, prefix + "cov_var_ctl", size)
        if dataset.shape == diagonal and DERIVED not in dataset.attrs:
            control = dataset[()]
    return checked_mixture(path, FORMAT, weights, means, precisions, control)


def _entry(row: tuple[Any, ...]) -> HistoryEntry:
    values: list[Any] = [v.decode() if isinstance(v, bytes) else v for v in row]
    return HistoryEntry(*values)


def _dataset(path: PathLike, file: h5py.File, name: str, size: int) -> h5py.Dataset:
    """A numeric dataset that lies in the file itself and is no larger than it can be."""
    import h5py

    place: Any = file
    for part in name.split("/"):
        if not isinstance(place.get(part, getlink=True), h5py.HardLink):
            refuse(path, FORMAT, f"{name} is a link to elsewhere")
        place = place[part]
    if not isinstance(place, h5py.Dataset) or place.shape is None:
        refuse(path, FORMAT, f"{name} is no array")
    creation = place.id.get_create_plist()
    if creation.get_layout() == h5py.h5d.VIRTUAL or creation.get_external_count():
        refuse(path, FORMAT, f"the values of {name} are elsewhere")
    if place.dtype.kind != "f" or place.dtype.itemsize not in (4, 8) or place.dtype.subdtype:
        refuse(path, FORMAT, f"{name} holds {place.dtype}, float64 was expected")
    filters = {creation.get_filter(index)[0] for index in range(creation.get_nfilters())}
    if not filters <= _FILTERS:
        refuse(path, FORMAT, f"{name} is compressed in a way that SIDEKIT does not use")
    stored = place.id.get_storage_size()
    if stored > size or place.nbytes > stored * _LARGEST_EXPANSION:
        refuse(path, FORMAT, f"{name} claims {place.nbytes} bytes, the file has {size}")
    if place.chunks and math.prod(place.chunks) * place.dtype.itemsize > max(
        4 * place.nbytes, 1 << 20
    ):
        refuse(path, FORMAT, f"{name} has chunks larger than itself")
    return place


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
