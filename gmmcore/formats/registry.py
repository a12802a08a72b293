"""Which format a file has: told by its content first, by its name second."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from gmmcore.errors import GmmcoreError
from gmmcore.files import PathLike, read_bytes
from gmmcore.formats import alize, hdf5, htk, kaldi
from gmmcore.formats.base import MAX_BYTES, Format, ReadOptions
from gmmcore.model import GaussianMixture

__all__ = [
    "core_mixture",
    "decode_mixture",
    "format_by_extension",
    "format_by_name",
    "format_of",
    "format_to_write",
    "formats",
    "read_mixture",
    "write_mixture",
]


@runtime_checkable
class HasMixture(Protocol):
    """Parameters that are a mixture when asked for, such as those of `gmmcore.Mixture`."""

    def gaussian_mixture(self) -> GaussianMixture: ...


# One line a module. A format without a magic number comes after those that have one.
_FORMATS: tuple[Format, ...] = (
    *hdf5.FORMATS,
    *kaldi.FORMATS,
    *htk.FORMATS,
    *alize.FORMATS,
)


def formats() -> tuple[Format, ...]:
    """Every format that can be read and written."""
    return _FORMATS


def format_by_name(name: str) -> Format:
    """The format that users call `name`.

    Raises
    ------
    GmmcoreError
        If there is none.
    """
    for one in _FORMATS:
        if one.name == name:
            return one
    raise GmmcoreError(f"{name}: no such format; there are {', '.join(f.name for f in _FORMATS)}")


def format_of(path: PathLike, content: bytes) -> Format:
    """The format of a file, by its content and, where that tells nothing, by its name.

    Raises
    ------
    GmmcoreError
        If neither tells.
    """
    for one in _FORMATS:
        if one.recognises(content):
            return one
    found = format_by_extension(path)
    if found is None:
        raise GmmcoreError(
            f"{path}: neither its content nor its name is that of a mixture; the formats are "
            f"{', '.join(f.title for f in _FORMATS)}"
        )
    return found


def format_to_write(path: PathLike, format: str | None = None) -> Format:
    """The format to write `path` in: the one named, or the one of the extension.

    Raises
    ------
    GmmcoreError
        If there is no such format, or the extension tells none.
    """
    found = format_by_extension(path)
    if format is not None:
        return format_by_name(format)
    if found is None:
        known = ", ".join(f"{f.extensions[0]} ({f.title})" for f in _FORMATS)
        raise GmmcoreError(f"{path}: its extension tells no format; use {known}, or name one")
    return found


def decode_mixture(
    path: PathLike,
    content: bytes,
    *,
    prefix: str = "",
    begin_hmm: bool = False,
    state2: bool = False,
    format: str | None = None,
) -> GaussianMixture:
    """`read_mixture` of a file whose whole content has been read already."""
    found = format_by_name(format) if format is not None else format_of(path, content)
    return found.decode(path, content, ReadOptions(prefix, begin_hmm, state2))


def read_mixture(
    path: PathLike,
    *,
    prefix: str = "",
    begin_hmm: bool = False,
    state2: bool = False,
    format: str | None = None,
) -> GaussianMixture:
    """Read a mixture in any format.

    Parameters
    ----------
    path
        The file.
    prefix
        SIDEKIT HDF5: what the names of the datasets begin with.
    begin_hmm, state2
        HTK: parameters count without a ``<BEGINHMM>`` or ``<STATE>`` before them.
    format
        Name of the format, when neither content nor name tells.

    Returns
    -------
    GaussianMixture

    Raises
    ------
    GmmcoreError
        If the file is missing, damaged, of an unknown kind, or holds no valid mixture.
    """
    _check_name(path)
    return decode_mixture(
        path,
        read_bytes(path, MAX_BYTES),
        prefix=prefix,
        begin_hmm=begin_hmm,
        state2=state2,
        format=format,
    )


def write_mixture(
    path: PathLike, mixture: GaussianMixture | HasMixture, format: str | None = None
) -> None:
    """Write a mixture; reading and writing it again gives the same bytes.

    Parameters
    ----------
    path
        The file, written whole or not at all.
    mixture : GaussianMixture or Mixture
        The parameters.
    format
        Name of the format; by the extension of `path` when None.

    Raises
    ------
    GmmcoreError
        If the format is unknown, cannot hold the mixture, or the file cannot be written; or
        if `mixture` is neither kind of mixture, or an empty one.
    """
    chosen = format_to_write(path, format)
    chosen.write(path, core_mixture(path, mixture))


def core_mixture(name: PathLike, mixture: Any) -> GaussianMixture:
    """The core's mixture of a `GaussianMixture` or a `Mixture`.

    Parameters
    ----------
    name
        What the message begins with.
    mixture : GaussianMixture or Mixture

    Raises
    ------
    GmmcoreError
        If it is neither, or a `Mixture` without valid parameters.
    """
    if isinstance(mixture, GaussianMixture):
        return mixture
    if isinstance(mixture, HasMixture) and not isinstance(mixture, type):
        return mixture.gaussian_mixture()
    raise GmmcoreError(
        f"{name}: a value of type {type(mixture).__name__}; expected a Mixture or a "
        "GaussianMixture; read or train one first"
    )


def format_by_extension(path: PathLike) -> Format | None:
    """The format that the extension of `path` belongs to; None if it belongs to none.

    Raises
    ------
    GmmcoreError
        If `path` is not the name of a file.
    """
    _check_name(path)
    extension = Path(path).suffix.lower()
    for one in _FORMATS:
        if extension in one.extensions:
            return one
    return None


def _check_name(path: PathLike) -> None:
    # `open` would take a number for a file that is open already.
    if not isinstance(path, str | os.PathLike):
        raise GmmcoreError(
            f"path: a value of type {type(path).__name__}; expected the name of a file; correct it"
        )
