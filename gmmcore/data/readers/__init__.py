"""Readers of feature files: one module per format, chosen by the content of the file.

A reader is a module with

``recognises(head, size)``
    whether a file of `size` bytes that begins with the bytes `head` is of its format;
``Source(path, datasets)``
    the opened file, a `gmmcore.data.readers.base.Source`.

To add a format, write such a module and name it in `gmmcore.config.features.READERS`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import Any

from gmmcore.config.features import READERS
from gmmcore.data.readers.base import (
    Description,
    Place,
    Source,
    as_labels,
    parse_place,
    quiet,
)
from gmmcore.data.readers.faults import FaultyShowError
from gmmcore.files import reason_of

__all__ = [
    "Description",
    "Place",
    "Source",
    "Sources",
    "as_labels",
    "parse_place",
    "quiet",
]

_HEAD = 4096
_OPEN_FILES = 8
_HDF5_SUFFIXES = (".h5", ".hdf5")


class Sources:
    """Opened feature files; the latest eight are kept open.

    Parameters
    ----------
    format : str
        A key of `READERS`, or ``auto``.
    datasets : tuple of str
        Datasets of a show to join, for formats that have several.
    """

    def __init__(self, format: str, datasets: tuple[str, ...]) -> None:
        self._format = format
        self._datasets = datasets
        self._open: dict[str, Source] = {}

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1].close()

    def get(self, path: str) -> Source:
        """The opened file `path`.

        Raises
        ------
        FaultyShowError
            If it is missing, unreadable, or in no known format.
        """
        source = self._open.pop(path, None)
        if source is None:
            while len(self._open) >= _OPEN_FILES:
                self._open.pop(next(iter(self._open))).close()
            source = _opened(path, self._format, self._datasets)
        self._open[path] = source
        return source


def _opened(path: str, format: str, datasets: tuple[str, ...]) -> Source:
    if not os.path.isfile(path) and os.path.exists(path):  # Opening a pipe would wait for a writer.
        raise FaultyShowError(
            "not a regular file", "a feature file", "correct the list, root or pattern"
        )
    if format in ("auto", "sidekit") and path.endswith(_HDF5_SUFFIXES):
        # HDF5 checks the content itself, which saves one opening per file of a long list.
        with contextlib.suppress(FaultyShowError):
            return _reader("sidekit").Source(path, datasets)
    try:
        with open(path, "rb") as stream:
            head = stream.read(_HEAD)
            size = os.fstat(stream.fileno()).st_size
    except FileNotFoundError:
        raise FaultyShowError(
            f"{os.path.abspath(path)}: no such file",
            "a feature file",
            "correct the list, root or pattern",
        ) from None
    except (OSError, ValueError) as error:
        raise FaultyShowError(
            f"cannot be read ({reason_of(error)})", "a readable feature file", "fix its permissions"
        ) from None
    if size == 0:
        raise FaultyShowError("an empty file", "a feature file", "extract its features again")
    for name in READERS if format == "auto" else (format,):
        if _reader(name).recognises(head, size):
            return _reader(name).Source(path, datasets)
    wanted = ", ".join(READERS) if format == "auto" else format
    raise FaultyShowError(
        "damaged, or in no known format",
        f"a feature file in the format {wanted}",
        "extract its features again or correct features: format",
    )


def _reader(name: str) -> Any:
    return importlib.import_module(f"gmmcore.data.readers.{name}")
