"""Formats of mixture files: a file has the one of its content, or else of its extension."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gmmcore.core.mixture import GaussianMixture
from gmmcore.errors import GmmcoreError
from gmmcore.files import PathLike, read_bytes
from gmmcore.formats import alize, hdf5, htk, kaldi
from gmmcore.formats.base import MAX_BYTES, Format, ReadOptions

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


# One line a module. A format without a magic number comes after those that have one.
_FORMATS: tuple[Format, ...] = (*hdf5.FORMATS, *kaldi.FORMATS, *htk.FORMATS, *alize.FORMATS)


def formats() -> tuple[Format, ...]:
    """All formats, each of which can be read and written."""
    return _FORMATS


def format_by_name(name: str) -> Format:
    """The format with this name; raises `GmmcoreError` if there is none."""
    known = {one.name: one for one in _FORMATS}
    if name not in known:
        raise GmmcoreError(f"{name}: no such format; there are {', '.join(known)}")
    return known[name]


def format_of(path: PathLike, content: bytes) -> Format:
    """The format of the content of a file, or else that of its extension.

    Raises
    ------
    GmmcoreError
        If they are those of no format.
    """
    found = next((f for f in _FORMATS if f.recognises(content)), format_by_extension(path))
    if found is None:
        raise GmmcoreError(
            f"{path}: neither its content nor its name is that of a mixture; the formats are "
            f"{', '.join(f.title for f in _FORMATS)}"
        )
    return found


def format_to_write(path: PathLike, format: str | None = None) -> Format:
    """The format that is named, or else that of the extension of `path`.

    Raises
    ------
    GmmcoreError
        If there is no such format, or no format has this extension.
    """
    found = format_by_extension(path)
    if format is not None:
        return format_by_name(format)
    if found is None:
        known = ", ".join(f"{f.extensions[0]} ({f.title})" for f in _FORMATS)
        raise GmmcoreError(f"{path}: its extension tells no format; use {known}, or name one")
    return found


def decode_mixture(
    path: PathLike, content: bytes, *, format: str | None = None, **options: Any
) -> GaussianMixture:
    """Decode the whole content of a file; parameters and errors as those of `read_mixture`."""
    found = format_of(path, content) if format is None else format_by_name(format)
    return found.decode(path, content, ReadOptions(**options))


def read_mixture(
    path: PathLike,
    *,
    prefix: str = "",
    begin_hmm: bool = False,
    state2: bool = False,
    format: str | None = None,
) -> GaussianMixture:
    """Read a mixture from a file of any format.

    Parameters
    ----------
    path : path
    prefix : str, optional
        SIDEKIT HDF5: what the names of the datasets begin with.
    begin_hmm, state2 : bool, optional
        HTK: read parameters without a ``<BEGINHMM>`` or ``<STATE>`` before them.
    format : str, optional
        Name of the format, where neither the content nor the name of the file tells it.

    Returns
    -------
    GaussianMixture
        The mixture, whose parameters are checked.

    Raises
    ------
    GmmcoreError
        If the file is missing, damaged, of an unknown format, or holds no valid mixture.

    Examples
    --------
    >>> import tempfile
    >>> from gmmcore import GaussianMixture, read_mixture, write_mixture
    >>> mixture = GaussianMixture([0.25, 0.75], [[0, 0], [3, 3]], [[1, 1], [4, 4]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_mixture(folder + "/ubm.gmm", mixture)
    ...     read_mixture(folder + "/ubm.gmm") == mixture
    True
    """
    _check_name(path)
    options = {"prefix": prefix, "begin_hmm": begin_hmm, "state2": state2}
    return decode_mixture(path, read_bytes(path, MAX_BYTES), format=format, **options)


def write_mixture(path: PathLike, mixture: Any, format: str | None = None) -> None:
    """Write a mixture; a file that is read and written again keeps its bytes.

    Parameters
    ----------
    path : path
        The file, written whole or not at all.
    mixture : GaussianMixture or Mixture
    format : str, optional
        Name of the format; by default that of the extension of `path`.

    Raises
    ------
    GmmcoreError
        If the format is unknown or cannot hold the mixture, the file cannot be written, or
        `mixture` is neither kind of mixture, or an empty one.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from gmmcore import GaussianMixture, write_mixture
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "ubm.txt")
    ...     write_mixture(path, GaussianMixture([1], [[1, 2]], [[1, 4]]))
    ...     path.read_text().split()[:6]
    ['<DiagGMM>', '<GCONSTS>', '[', '-9.64473', ']', '<WEIGHTS>']
    """
    chosen = format_to_write(path, format)
    chosen.write(path, core_mixture(path, mixture))


def core_mixture(name: PathLike, mixture: Any) -> GaussianMixture:
    """Make a `GaussianMixture` of either kind of mixture.

    Raises
    ------
    GmmcoreError
        If it is neither, or a `Mixture` without valid parameters; the message begins with `name`.
    """
    if isinstance(mixture, GaussianMixture):
        return mixture
    if hasattr(mixture, "gaussian_mixture") and not isinstance(mixture, type):
        found: GaussianMixture = mixture.gaussian_mixture()
        return found
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
    return next((one for one in _FORMATS if extension in one.extensions), None)


def _check_name(path: PathLike) -> None:
    # `open` would take a number for a file that is open already.
    if not isinstance(path, str | os.PathLike):
        raise GmmcoreError(
            f"path: a value of type {type(path).__name__}; expected the name of a file; correct it"
        )
