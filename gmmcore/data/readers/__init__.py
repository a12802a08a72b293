"""Readers of feature files: one module per format, chosen by the content of the file.

A reader is a module with

``recognises(head, size)``
    whether a file of `size` bytes that begins with the bytes `head` is of its format;
``Source(path, datasets)``
    the opened file, a `gmmcore.data.readers.Source`.

To add a format, write such a module and name it in `gmmcore.config.keys.READERS`.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gmmcore.config.keys import READERS
from gmmcore.errors import GmmcoreError, counted
from gmmcore.files import reason_of

_HEAD = 4096
_OPEN_FILES = 8
_HDF5_SUFFIXES = (".h5", ".hdf5")
_TOLD = 3
_PARTICULAR = re.compile(r"\S*[/\d]\S*")
_PLACE = re.compile(r"(?P<file>.+?)(?::(?P<offset>\d{1,18}))?(?P<rows>\[[\d:, ]*\])?", re.DOTALL)


@dataclass(frozen=True)
class Fault:
    """A fault of a show, which has its name and path from the list."""

    show: str
    path: str
    found: str
    expected: str
    remedy: str

    def line(self) -> str:
        """Return the fault as one line of text."""
        where = f"show {printable(self.show)}" + (f" ({printable(self.path)})" if self.path else "")
        return f"{where}: {self.found}; expected {self.expected}; {self.remedy}"

    def facts(self) -> dict[str, str]:
        """Return JSON values; ``Fault(**facts)`` is the same fault."""
        return asdict(self)


class FaultyShowError(GmmcoreError):
    """A fault of a show, raised where name and path of the show are not known.

    `changed` says that the show has changed since the list was checked.
    """

    def __init__(self, found: str, expected: str, remedy: str, *, changed: bool = False) -> None:
        super().__init__(f"{found}; expected {expected}; {remedy}")
        self.found, self.expected, self.remedy, self.changed = found, expected, remedy, changed

    def fault(self, show: str, path: str) -> Fault:
        """Return the fault as one of this show."""
        return Fault(show, path, self.found, self.expected, self.remedy)


@contextlib.contextmanager
def reading(
    expected: str = "a feature file in a known format", remedy: str = "extract it again"
) -> Iterator[None]:
    """Turn any error while a feature file is read into a `FaultyShowError`.

    No library documents the errors that a damaged file leads to, so that all errors but those of
    the system and of memory are taken for damage; they get `expected` and `remedy`.
    """
    try:
        yield
    except (GmmcoreError, MemoryError):
        raise
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        if code == errno.ENOMEM:
            raise MemoryError from None
        text = str(error) if code is None else reason_of(error)
        reason = printable(" ".join(text.split())[:200]) or type(error).__name__
        if code is None:
            raise FaultyShowError(f"damaged or truncated ({reason})", expected, remedy) from None
        raise FaultyShowError(
            f"cannot be read ({reason})",
            "a readable feature file",
            "fix the disk or its permissions, or extract it again",
        ) from None


def report(
    faults: Iterable[Fault],
    what: str = "features",
    remedy: str = "fix or remove these shows, or set features: on_error: skip",
) -> str:
    """Return all faults as one message: a line that counts them, then one line each.

    Of the faults that differ only in numbers and paths, the first three are listed.
    """
    faults = list(faults)
    lines = [f"{what}: {counted(len(faults), 'fault')}; {remedy}"]
    alike: dict[tuple[str, ...], list[Fault]] = {}
    for fault in faults:
        texts = (fault.found, fault.expected, fault.remedy)
        alike.setdefault(tuple(_PARTICULAR.sub("", text) for text in texts), []).append(fault)
    for group in alike.values():
        lines += ["  " + fault.line() for fault in group[:_TOLD]]
        if (more := len(group) - _TOLD) > 0:
            lines.append(f"  and {counted(more, 'more show')} with this fault")
    return "\n".join(lines)


def fault_table(faults: Iterable[Fault]) -> str:
    """Return the faults as tab-separated text with a header line."""
    head = "\t".join(each.name for each in fields(Fault))
    rows = ["\t".join(map(printable, astuple(fault))) for fault in faults]
    return "\n".join([head, *rows]) + "\n"


def printable(text: str) -> str:
    """Return `text` on one line, without control characters, for terminals and tables."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def quiet() -> np.errstate:
    """Silence NumPy's warnings of damaged numbers, which are checked after they are read."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


class Description(NamedTuple):
    """Size of a show, which is known without its frames; `labels` is None if there are none."""

    frames: int
    dimension: int
    labels: int | None


class Place(NamedTuple):
    """Where the frames of a show lie: file, byte offset and Kaldi's inclusive row range."""

    file: str
    offset: int | None = None
    rows: str = ""


class Source:
    """An opened feature file, with the methods of its format; all may raise `FaultyShowError`."""

    def __init__(self, path: str, datasets: tuple[str, ...]) -> None:
        """Open the file; `datasets` are for formats that hold several matrices a show."""

    def describe(self, show: str, place: Place) -> Description:
        """Return the size of a show; this reads no frames."""
        raise NotImplementedError

    def read(self, show: str, place: Place, first: int, last: int) -> npt.NDArray[np.float32]:
        """Return the frames first <= i < last, shape (last - first, D), C-contiguous."""
        raise NotImplementedError

    def labels(
        self, show: str, place: Place, first: int, last: int
    ) -> npt.NDArray[np.bool_] | None:
        """Return the voice-activity labels of these frames; None if there are none."""
        return None

    def close(self) -> None:
        """Close the file."""


def parse_place(text: str, root: str = "") -> Place:
    """Split ``file``, ``file:offset`` or ``file:offset[first:last]``, as in a Kaldi scp."""
    if text and not text.endswith("]") and ":" not in text:
        return Place(os.path.join(root, text))
    match = _PLACE.fullmatch(text)
    if match is None:
        raise FaultyShowError("an empty path", "the path of a feature file", "correct the list")
    offset = None if match["offset"] is None else int(match["offset"])
    return Place(os.path.join(root, match["file"]), offset, (match["rows"] or "")[1:-1].strip())


def as_labels(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Convert numbers to voice-activity labels; the text "0" and NaN would count as speech."""
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise FaultyShowError(
            f"voice-activity labels that are no numbers (type {values.dtype})",
            "0 or 1 for each frame",
            "make the labels again",
        )
    return values.astype(bool)


class Sources:
    """Opened feature files of a format, or of all (``auto``); the latest eight are kept open."""

    def __init__(self, format: str, datasets: tuple[str, ...]) -> None:
        self._format, self._datasets = format, datasets
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
        """Return the opened file `path`; raise `FaultyShowError` if it cannot be opened."""
        source = self._open.pop(path, None)
        if source is None:
            while len(self._open) >= _OPEN_FILES:
                self._open.pop(next(iter(self._open))).close()
            source = _opened(path, self._format, self._datasets)
        self._open[path] = source
        return source


def _opened(path: str, format: str, datasets: tuple[str, ...]) -> Source:
    """Open a file with the reader that recognises its content."""
    where = "correct the list, root or pattern"
    if not os.path.isfile(path) and os.path.exists(path):  # Opening a pipe would wait for a writer.
        raise FaultyShowError("not a regular file", "a feature file", where)
    if format in ("auto", "sidekit") and path.endswith(_HDF5_SUFFIXES):
        # HDF5 checks the content itself, which saves one opening per file of a long list.
        with contextlib.suppress(FaultyShowError):
            return _reader("sidekit").Source(path, datasets)
    try:
        with open(path, "rb") as stream:
            head = stream.read(_HEAD)
            size = os.fstat(stream.fileno()).st_size
    except FileNotFoundError:
        found = f"{os.path.abspath(path)}: no such file"
        raise FaultyShowError(found, "a feature file", where) from None
    except (OSError, ValueError) as error:
        raise FaultyShowError(
            f"cannot be read ({reason_of(error)})", "a readable feature file", "fix its permissions"
        ) from None
    if size == 0:
        raise FaultyShowError("an empty file", "a feature file", "extract its features again")
    names = READERS if format == "auto" else (format,)
    for name in names:
        if _reader(name).recognises(head, size):
            return _reader(name).Source(path, datasets)
    raise FaultyShowError(
        "damaged, or in no known format",
        f"a feature file in the format {', '.join(names)}",
        "extract its features again or correct features: format",
    )


def _reader(name: str) -> Any:
    return importlib.import_module(f"gmmcore.data.readers.{name}")
