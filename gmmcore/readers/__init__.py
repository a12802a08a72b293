"""Readers of feature files: one module a format, chosen by the content of the file.

A reader is a module with

``recognises(head, size)``
    whether a file of `size` bytes that begins with the bytes `head` is of its format;
``Source(path, datasets)``
    the opened file, see `Source` below.

To add a format, write such a module and name it in `READERS`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import stat
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gmmcore.errors import GmmcoreError
from gmmcore.files import reason_of
from gmmcore.readers.faults import FaultyShowError

__all__ = [
    "READERS",
    "Description",
    "Place",
    "Source",
    "Sources",
    "as_labels",
    "need",
    "parse_place",
    "quiet",
]

READERS = {
    "npy": "gmmcore.readers.npy",
    "htk": "gmmcore.readers.htk",
    "kaldi": "gmmcore.readers.kaldi",
    "sidekit": "gmmcore.readers.sidekit",
}
"""Format to module, in the order in which they are asked; h5py is loaded only if it must be."""

_HEAD = 4096
_OPEN_FILES = 8
_HDF5_SUFFIXES = (".h5", ".hdf5")


def quiet() -> np.errstate:
    """For conversions of what damaged files hold: the numbers are checked after they are read."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


class Description(NamedTuple):
    """What a source says of a show without reading its frames.

    ``labels`` is the number of voice-activity labels beside the frames, None if there are none.
    """

    frames: int
    dimension: int
    labels: int | None


class Place(NamedTuple):
    """Where the frames of a show lie: file, byte offset and Kaldi's inclusive row range."""

    file: str
    offset: int | None = None
    rows: str = ""


class Source(Protocol):
    """An opened feature file. Every method may raise `FaultyShowError`."""

    def describe(self, show: str, place: Place) -> Description:
        """Size of a show; reads no frames."""

    def read(self, show: str, place: Place, first: int, last: int) -> npt.NDArray[np.float32]:
        """Frames first <= i < last, shape (last - first, D), C-contiguous."""

    def labels(
        self, show: str, place: Place, first: int, last: int
    ) -> npt.NDArray[np.bool_] | None:
        """Voice-activity labels of these frames, or None where the file has none."""

    def close(self) -> None:
        """Release the file."""


_PLACE = re.compile(r"(?P<file>.+?)(?::(?P<offset>\d{1,18}))?(?P<rows>\[[\d:, ]*\])?", re.DOTALL)


def parse_place(text: str, root: str = "") -> Place:
    """Split ``file``, ``file:offset`` or ``file:offset[first:last]``, as in a Kaldi scp.

    Parameters
    ----------
    text : str
    root : str
        Folder of relative paths.
    """
    if text and not text.endswith("]") and ":" not in text:
        return Place(os.path.join(root, text))
    match = _PLACE.fullmatch(text)
    if match is None:
        raise FaultyShowError("an empty path", "the path of a feature file", "correct the list")
    offset = match["offset"]
    return Place(
        os.path.join(root, match["file"]),
        None if offset is None else int(offset),
        (match["rows"] or "")[1:-1].strip(),
    )


class Sources:
    """Opened feature files, the latest few of them kept open.

    Parameters
    ----------
    format : str
        A key of `READERS`, or ``auto``.
    datasets : tuple of str
        For formats that hold several matrices a show.
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
    _check_regular(path)
    if format in ("auto", "sidekit") and path.endswith(_HDF5_SUFFIXES):
        # HDF5 looks at the content itself: one opening less for each file of a long list.
        from gmmcore.readers import sidekit

        with contextlib.suppress(FaultyShowError):
            return sidekit.Source(path, datasets)
    try:
        with open(path, "rb") as stream:
            head = stream.read(_HEAD)
            size = os.fstat(stream.fileno()).st_size
    except (OSError, ValueError) as error:
        raise _unreadable(error) from None
    if size == 0:
        raise FaultyShowError("an empty file", "a feature file", "extract its features again")
    for name, module_name in READERS.items():
        if format in (name, "auto"):
            module: Any = importlib.import_module(module_name)
            if module.recognises(head, size):
                source: Source = module.Source(path, datasets)
                return source
    wanted = ", ".join(READERS) if format == "auto" else format
    raise FaultyShowError(
        "damaged, or in no known format",
        f"a feature file in the format {wanted}",
        "extract its features again or correct features: format",
    )


def _check_regular(path: str) -> None:
    """Raise unless `path` is a file; to open a pipe would be to wait for whoever writes into it."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise FaultyShowError(
            f"{os.path.abspath(path)}: no such file",
            "a feature file",
            "correct the list, root or pattern",
        ) from None
    except (OSError, ValueError) as error:
        raise _unreadable(error) from None
    if not stat.S_ISREG(mode):
        raise FaultyShowError(
            "not a regular file", "a feature file", "correct the list, root or pattern"
        )


def _unreadable(error: Exception) -> FaultyShowError:
    return FaultyShowError(
        f"cannot be read ({reason_of(error)})", "a readable feature file", "fix its permissions"
    )


def as_labels(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Numbers as voice-activity labels.

    Raises
    ------
    FaultyShowError
        For anything else: the text "0" and NaN would count as speech.
    """
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise FaultyShowError(
            f"voice-activity labels that are no numbers (type {values.dtype})",
            "0 or 1 for each frame",
            "make the labels again",
        )
    return values.astype(bool)


def need(module: str, extra: str) -> Any:
    """Import an optional module.

    Raises
    ------
    GmmcoreError
        Naming the extra that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise GmmcoreError(
            f"{module} is not installed ({error}); expected for this kind of file; "
            f"install it with: pip install 'gmmcore[{extra}]'"
        ) from None
