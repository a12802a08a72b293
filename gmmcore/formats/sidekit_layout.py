"""SIDEKIT's datasets in an HDF5 file, and the checks of foreign files.

A mixture needs none of HDF5's links and few of its filters; everything else is refused before
memory is taken for it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from gmmcore.core.mixture import GaussianMixture
from gmmcore.files import PathLike
from gmmcore.formats.base import Array, check_constants, checked_mixture, checked_size, refuse

if TYPE_CHECKING:
    import h5py

__all__ = [
    "FORMAT",
    "get_mixture",
    "in_file",
    "largest_array",
    "plain_constants",
    "prefixes_in",
    "put_mixture",
]


FORMAT = "SIDEKIT HDF5"
DERIVED = "gmmcore_derived"
"""Attribute of a ``cov_var_ctl`` that only SIDEKIT needs; the mixture had none."""

# Numbers that were trained hardly compress; zeros do, a thousandfold.
_FREE_BYTES = 1 << 28
_LARGEST_EXPANSION = 64
_FLOATS = ("64LE", "64BE", "32LE", "32BE")
_FILTERS = {1, 2, 3}  # deflate, shuffle, fletcher32


def plain_constants(mixture: GaussianMixture) -> tuple[Array, Array, Array]:
    """Return SIDEKIT's ``cst``, ``det`` and ``a`` of a mixture, each of shape (C,), float64.

    The first two may overflow to infinity or 0 in high dimension; ``a`` is computed from
    logarithms, and finite for positive weights.
    """
    log_constant = -0.5 * (mixture.dimension * math.log(2 * math.pi) + mixture.log_determinants)
    with np.errstate(over="ignore", under="ignore"):
        cst, det = np.exp(log_constant), np.exp(mixture.log_determinants)
        if mixture.is_full:
            return cst, det, np.zeros(mixture.components)
        a = (mixture.means**2 * mixture.precisions).sum(axis=1)
    return cst, det, a - 2.0 * (mixture.log_weights + log_constant)


def put_mixture(file: h5py.File, mixture: GaussianMixture, prefix: str, compress: bool) -> None:
    """Create the datasets of a mixture, compressed as SIDEKIT does if `compress`."""
    control = mixture.variance_control
    derived = control is None
    if control is None:
        variances = mixture.covariances
        control = np.diagonal(variances, axis1=1, axis2=2) if mixture.is_full else variances
    cst, det, a = plain_constants(mixture)
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


def get_mixture(path: PathLike, file: h5py.File, prefix: str, limit: int) -> GaussianMixture:
    """Read the datasets with this prefix, none of them larger than `limit` bytes.

    The Cholesky factors are recomputed, because SIDEKIT writes lower ones where its
    layout has upper ones; so are the constants.

    Raises
    ------
    GmmcoreError
        If a dataset is missing, elsewhere, incomplete or of another kind.
    """

    def need(name: str, accept: Callable[[tuple[int, ...]], bool], expected: str) -> Array:
        dataset = _dataset(path, file, prefix + name, limit)
        if not accept(dataset.shape):
            refuse(
                path,
                FORMAT,
                f"{prefix + name} has shape {dataset.shape}, {expected} was expected",
            )
        return dataset[()]

    if prefix + "w" not in file:
        others = prefixes_in(file)
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
        dataset = _dataset(path, file, prefix + "cov_var_ctl", limit)
        if dataset.shape == diagonal and DERIVED not in dataset.attrs:
            control = dataset[()]
    _check_distinct(path, file, prefix)
    mixture = checked_mixture(path, FORMAT, weights, means, precisions, control)
    if not mixture.is_full and prefix + "a" in file:
        dataset = _dataset(path, file, prefix + "a", limit)
        if dataset.shape == (count,):
            computed = plain_constants(mixture)[2]
            terms = np.abs(computed) + np.abs(mixture.log_determinants) + dimension
            check_constants(path, FORMAT, dataset[()], computed, 1e-6 * terms)
    return mixture


def prefixes_in(file: h5py.File) -> list[str]:
    """The prefixes under which a file holds mixtures, sorted."""
    names = set(file)
    return sorted(n[:-2] for n in names if n.endswith("mu") and n[:-2] + "w" in names)


def largest_array(size: int, sealed: bool) -> int:
    """Largest size of an array, in bytes, in a file of `size` bytes.

    A file that gmmcore sealed may be compressed as far as deflate can.
    """
    return max(_FREE_BYTES, size * (1032 if sealed else _LARGEST_EXPANSION))


def in_file(path: PathLike, file: h5py.File, name: str) -> Any:
    """The object of this name, which must lie in the file itself."""
    import h5py

    place: Any = file
    for part in name.split("/"):
        if not isinstance(place.get(part, getlink=True), h5py.HardLink):
            refuse(path, FORMAT, f"{name} is a link to elsewhere")
        place = place[part]
    return place


def _check_distinct(path: PathLike, file: h5py.File, prefix: str) -> None:
    """Refuse two names of one array, which only a damaged directory has."""
    import h5py

    present = [n for n in ("w", "mu", "invcov", "cov_var_ctl", "a") if prefix + n in file]
    places = {h5py.h5o.get_info(file[prefix + name].id).addr for name in present}
    if len(places) != len(present):
        refuse(path, FORMAT, "two of its names are those of one array: damaged")


def _dataset(path: PathLike, file: h5py.File, name: str, limit: int) -> h5py.Dataset:
    """A dataset of floats that lies in the file itself and is no larger than the file allows."""
    import h5py

    place = in_file(path, file, name)
    if not isinstance(place, h5py.Dataset) or place.shape is None:
        refuse(path, FORMAT, f"{name} is no array")
    creation = place.id.get_create_plist()
    if creation.get_layout() == h5py.h5d.VIRTUAL or creation.get_external_count():
        refuse(path, FORMAT, f"the values of {name} are elsewhere")
    found = place.id.get_type()
    if not any(found.equal(getattr(h5py.h5t, f"IEEE_F{kind}")) for kind in _FLOATS):
        refuse(path, FORMAT, f"{name} holds {place.dtype}, float64 was expected")
    filters = {creation.get_filter(index)[0] for index in range(creation.get_nfilters())}
    if not filters <= _FILTERS:
        refuse(path, FORMAT, f"{name} is compressed in a way that SIDEKIT does not use")
    if place.nbytes > limit or (not place.chunks and place.id.get_storage_size() < place.nbytes):
        refuse(path, FORMAT, f"{name} claims {place.nbytes} bytes that the file cannot hold")
    if place.chunks:
        chunk = math.prod(place.chunks) * place.dtype.itemsize
        if chunk > max(4 * place.nbytes, 1 << 20):
            refuse(path, FORMAT, f"{name} has chunks larger than itself")
        _check_chunks(path, name, place)
    return place


def _check_chunks(path: PathLike, name: str, dataset: h5py.Dataset) -> None:
    """Refuse a dataset that lacks a chunk; HDF5 would read zeros for it."""
    grid = [
        range(0, length, chunk) for length, chunk in zip(dataset.shape, dataset.chunks, strict=True)
    ]
    for offset in itertools.product(*grid):
        # It searches as a read does, which may not find all that the index of chunks lists.
        try:
            skipped = dataset.id.read_direct_chunk(offset)[0]
        except (ValueError, RuntimeError, OSError, MemoryError):
            skipped = -1
        if skipped:
            refuse(path, FORMAT, f"{name} is not complete: damaged")
