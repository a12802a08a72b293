"""Formats of mixture files: the content of a file tells its format, or else its extension."""

from __future__ import annotations

import os
from codecs import BOM_UTF8
from importlib import import_module
from pathlib import Path
from typing import Any

from gmmcore.core.mixture import GaussianMixture
from gmmcore.errors import GmmcoreError
from gmmcore.files import MIXTURE_FILES, WRITTEN, PathLike, read_bytes
from gmmcore.formats.base import MAX_BYTES, Format
from gmmcore.formats.hdf5 import read_hdf5
from gmmcore.formats.sklearn import from_sklearn

_FORMATS: dict[str, Format] = {
    one.name: one
    for module in dict.fromkeys(module for module, _ in MIXTURE_FILES.values())
    for one in import_module(f"gmmcore.formats.{module}").FORMATS
}

_ARRAYS = "gmmcore.GaussianMixture makes a mixture of arrays"
_OTHERS: dict[tuple[bytes, ...], str] = {
    (b"\x1f\x8b", b"BZh", b"\xfd7zXZ"): "it is compressed; unpack it first",
    (b"\x93NUMPY", b"PK\3\4"): f"it holds arrays of NumPy; {_ARRAYS}",
    (b"MATLAB 5",): f"it is a file of MATLAB; {_ARRAYS}",
    (b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5"): (
        "it is a pickle, which may run commands and is not read; load it in Python, and give a "
        "mixture of scikit-learn to gmmcore.formats.sklearn.from_sklearn"
    ),
    (b"version https://git-lfs",): "it stands for a file in Git LFS; give `git lfs pull`",
}
"""How files begin that people take for mixtures, and what to do with them."""


def formats() -> tuple[Format, ...]:
    """Return all formats, in the order in which they are asked whether content is theirs."""
    return tuple(_FORMATS.values())


def format_by_name(name: str) -> Format:
    """Return the format with this name."""
    if name not in _FORMATS:
        raise GmmcoreError(f"{name}: no such format; there are {', '.join(_FORMATS)}")
    return _FORMATS[name]


def format_by_extension(path: PathLike) -> Format | None:
    """Return the format that has the extension of `path`, if any."""
    _check_name(path)
    extension = Path(path).suffix.lower()
    return next((one for one in formats() if extension in one.extensions), None)


def format_of(path: PathLike, content: bytes, format: str | None = None) -> Format:
    """Return the format with this name, or that of the content of a file, or of its extension."""
    if format not in (None, "auto"):
        return format_by_name(format)
    content = content.removeprefix(BOM_UTF8)
    found = next((one for one in formats() if one.recognises(content)), None)
    if found is None:
        for starts, what in _OTHERS.items():
            if content.startswith(starts):
                raise GmmcoreError(f"{path}: no mixture file: {what}")
        found = format_by_extension(path)
    if found is None:
        raise GmmcoreError(
            f"{path}: neither its content nor its name is that of a mixture; the formats are "
            f"{', '.join(one.title for one in formats())}; name one if it is one of them"
        )
    return found


def format_to_write(path: PathLike, format: str | None = None) -> Format:
    """Return the format with this name, or else the one that has the extension of `path`."""
    found = format_by_extension(path)
    if format is not None:
        return format_by_name(format)
    if found is None:
        writable = (_FORMATS[name] for name in WRITTEN)
        known = ", ".join(f"{one.extensions[0]} ({one.title})" for one in writable)
        raise GmmcoreError(f"{path}: its extension tells no format; use {known}, or name one")
    return found


def decode_mixture(
    path: PathLike, content: bytes, *, prefix: str = "", format: str | None = None
) -> GaussianMixture:
    """Decode the content of a file, as `read_mixture` does."""
    found = format_of(path, content, format)
    if found.name == "sidekit":
        return read_hdf5(path, content, prefix=prefix)
    return found.decode(path, content.removeprefix(BOM_UTF8))  # Editors of Windows write it.


def read_mixture(path: PathLike, *, prefix: str = "", format: str | None = None) -> GaussianMixture:
    """Read a mixture from a file of any format.

    Parameters
    ----------
    path : path
        Name of the file; its extension counts only where the content tells no format.
    prefix : str, optional
        Beginning of the names of the datasets, in a SIDEKIT file of several mixtures.
    format : str, optional
        Name of the format, such as ``kaldi``, where the content does not tell it; ``auto``, the
        default, looks into the file.

    Returns
    -------
    GaussianMixture
        The mixture, of kind ``diag`` or ``full``: no format stores the kinds ``spherical`` and
        ``tied``, whose precisions are read as diagonal and full ones.

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
    return decode_mixture(path, read_bytes(path, MAX_BYTES), prefix=prefix, format=format)


def write_mixture(path: PathLike, mixture: Any, format: str | None = None) -> None:
    """Write a mixture to a file; a mixture that was read from the same format keeps its bytes.

    Parameters
    ----------
    path : path
        Name of the file, which is written whole or not at all.
    mixture : GaussianMixture, Mixture, Training or fitted estimator
        The estimator may be that of scikit-learn. Spherical covariances are written as diagonal
        ones, tied covariances as full ones: the densities are the same, but BIC and AIC of the
        mixture that is read back count more parameters. `pickle` keeps the kind.
    format : str, optional
        Name of the format, such as ``kaldi``; by default the extension of `path` decides.

    Raises
    ------
    GmmcoreError
        If the format is unknown or cannot hold the mixture, or the file cannot be written.

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
    format_to_write(path, format).write(path, core_mixture(path, mixture))


def core_mixture(name: PathLike, mixture: Any) -> GaussianMixture:
    """Return the `GaussianMixture` of any kind of mixture or training; errors begin with `name`."""
    for attribute in ("mixture", "mixture_"):
        mixture = getattr(mixture, attribute, mixture)
    if isinstance(mixture, GaussianMixture):
        return mixture
    if hasattr(mixture, "covariance_type"):
        return from_sklearn(mixture)
    if hasattr(mixture, "gaussian_mixture") and not isinstance(mixture, type):
        found: GaussianMixture = mixture.gaussian_mixture()
        return found
    raise GmmcoreError(
        f"{name}: a value of type {type(mixture).__name__}; expected a Mixture, a GaussianMixture, "
        "or a fitted one of scikit-learn; read or train one first"
    )


def _check_name(path: PathLike) -> None:
    # `open` takes a number for the descriptor of an open file.
    if not isinstance(path, str | os.PathLike):
        raise GmmcoreError(
            f"path: a value of type {type(path).__name__}; expected the name of a file; correct it"
        )
