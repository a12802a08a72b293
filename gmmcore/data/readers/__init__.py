"""Readers of feature files: one module per format, whose class ``Source`` is derived from this."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gmmcore.config.keys import READERS
from gmmcore.data.readers.recognition import foreign, formats_of
from gmmcore.errors import GmmcoreError, counted
from gmmcore.files import reason_of

_READABLE = "a readable feature file"
_CORRECT = "correct the list"
_HEAD = 4096
_OPEN_FILES = 8
_HDF5_SUFFIXES = (".h5", ".hdf5")
_TOLD = 3  # Faults that are listed of each kind.
_PARTICULAR = re.compile(r"\S*[/\d]\S*")
_PLACE = re.compile(r"(?P<file>.+?)(?::(?P<offset>\d{1,18}))?(?P<rows>\[[-\d:, ]*\])?", re.DOTALL)
_AS_IT_STANDS = "[]"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_KALDI_RANGE = re.compile(r"\s*(\d{1,9})\s*:\s*(\d{1,9})\s*")
_HTK_RANGE = re.compile(r"\s*(\d{1,9})\s*,\s*(\d{1,9})\s*")
_TOLERANCE = 3  # Frames by which Kaldi's range may be too long, as in Kaldi.

Frames = npt.NDArray[np.float32]
Labels = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Fault:
    """A fault of a show, with the name and path of the show in the list."""

    show: str
    path: str
    found: str
    expected: str
    remedy: str

    def line(self) -> str:
        """Return the fault as one line of text."""
        is_told = self.found.startswith(self.path)  # An empty path is, too.
        where = "" if is_told else f" ({printable(self.path)})"
        where = f"show {printable(self.show)}{where}"
        return f"{where}: {self.found}; expected {self.expected}; {self.remedy}"


class FaultyShowError(GmmcoreError):
    """A fault of a show whose name and path are not known; `changed` since its list was checked."""

    def __init__(self, found: str, expected: str, remedy: str, *, changed: bool = False) -> None:
        super().__init__(f"{found}; expected {expected}; {remedy}")
        self.found, self.expected, self.remedy, self.changed = found, expected, remedy, changed

    def fault(self, show: str, path: str) -> Fault:
        """Return the fault with the name and path of its show."""
        return Fault(show, path, self.found, self.expected, self.remedy)


@contextlib.contextmanager
def reading(
    expected: str = "a feature file in a known format", remedy: str = "extract it again"
) -> Iterator[None]:
    """Turn every error of reading a feature file into a `FaultyShowError`, and silence NumPy."""
    # No library documents its errors for damaged files, so that every other one counts as damage.
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
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
        remedy = "fix the disk or its permissions, or extract it again"
        raise FaultyShowError(f"cannot be read ({reason})", _READABLE, remedy) from None


def report(
    faults: Iterable[Fault],
    what: str = "features",
    remedy: str = "fix or remove these shows, or set features: on_error: skip",
) -> str:
    """Return a message that counts the faults, and lists three of each kind."""
    faults = list(faults)
    lines = [f"{what}: {counted(len(faults), 'fault')}; {remedy}"]
    alike: dict[tuple[str, ...], list[Fault]] = {}
    for fault in faults:
        # Faults of one kind differ only in numbers and paths.
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
    """Return the text with escapes instead of line ends and other control characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Description(NamedTuple):
    """Numbers of frames, coefficients and labels of a show; `labels` is None without labels."""

    frames: int
    dimension: int
    labels: int | None


class Place(NamedTuple):
    """Place of the frames of a show: file, byte offset, and Kaldi's or HTK's inclusive range."""

    file: str
    offset: int | None = None
    rows: str = ""


class Source:
    """An opened feature file: a format reads whole shows, of which this class makes parts."""

    has_offsets = False
    """Whether a show may begin anywhere in the file."""

    def __init__(self, path: str, datasets: tuple[str, ...]) -> None:
        """Open the file; `datasets` names the matrices of a show in formats with several."""

    def whole(self, show: str, offset: int | None) -> Description:
        """Return the size of a whole show without reading its frames."""
        raise NotImplementedError

    def rows(self, show: str, offset: int | None, first: int, last: int) -> Frames:
        """Return the rows first <= i < last of a whole show, shape (last - first, D), C order."""
        raise NotImplementedError

    def row_labels(self, show: str) -> npt.NDArray[Any] | None:
        """Return the labels of all rows, of any type; None without labels."""
        return None

    def close(self) -> None:
        """Close the file."""

    def describe(self, show: str, place: Place) -> Description:
        """Return the size of what a place means of a show, without reading its frames."""
        whole, rows, columns = self._meant(show, place)
        labels = whole.labels
        if labels is not None:  # Labels that do not fit the whole show do not fit a part of it.
            labels = max(0, labels - whole.frames + len(rows))
        return Description(len(rows), len(columns), labels)

    def read(self, show: str, place: Place, first: int, last: int) -> Frames:
        """Return the frames first <= i < last, shape (last - first, D), C-contiguous."""
        _, rows, columns = self._meant(show, place)
        frames = self.rows(
            show, place.offset, rows.start + first, min(rows.start + last, rows.stop)
        )
        return np.ascontiguousarray(frames[:, columns.start : columns.stop])

    def labels(self, show: str, place: Place, first: int, last: int) -> Labels | None:
        """Return the voice-activity labels of the frames first <= i < last; None without labels."""
        _, rows, _ = self._meant(show, place)
        found = self.row_labels(show)
        if found is None:
            return None
        return as_labels(found.reshape(-1)[rows.start + first : rows.start + last])

    def vector(self, show: str, place: Place) -> Frames:
        """Return all values as a vector (n,), whose range counts values: in text, it is a row."""
        _, rows, _ = self._meant(show, place._replace(rows=""))
        values = self.rows(show, place.offset, 0, len(rows)).reshape(-1)
        chosen, _ = _ranges(place.rows, Description(len(values), 1, None))
        return values[chosen.start : chosen.stop]

    def _meant(self, show: str, place: Place) -> tuple[Description, range, range]:
        """Return the size of the whole show, and the rows and columns that a place means."""
        if place.offset and not self.has_offsets:
            found = f"the offset {place.offset} in a file that is no Kaldi archive"
            raise FaultyShowError(found, "a path without offset", _CORRECT)
        whole = self.whole(show, place.offset)
        return whole, *_ranges(place.rows, whole)


def _ranges(text: str, whole: Description) -> tuple[range, range]:
    """Find the rows and columns of Kaldi's range (both) or HTK's (of rows), all ends included."""
    wanted = f"[first:last] within its {whole.frames} rows and {whole.dimension} columns"
    wrong = FaultyShowError(f"the range [{text}]", wanted, _CORRECT)
    parts, tolerance = text.split(",") if text else [], _TOLERANCE
    if match := _HTK_RANGE.fullmatch(text):
        parts, tolerance = [f"{match[1]}:{match[2]}"], 0
    if len(parts) > 2:
        raise wrong
    chosen = [range(whole.frames), range(whole.dimension)]
    for i, part in enumerate(parts):
        if part.strip() in ("", ":"):
            continue
        match = _KALDI_RANGE.fullmatch(part)
        if match is None:
            raise wrong
        first, last, count = int(match[1]), int(match[2]), len(chosen[i])
        if first > last or first >= count or last >= count + (tolerance if i == 0 else 0):
            raise wrong
        chosen[i] = range(first, min(last + 1, count))
    return chosen[0], chosen[1]


def parse_place(text: str, root: str = "") -> Place:
    """Split ``file``, ``file:offset[first:last]`` or, for a name as it stands, ``file[]``."""
    if text and text[0] != "|" and text[-1] not in "]|" and ":" not in text and not is_url(root):
        return Place(os.path.join(root, text))
    if text.endswith(_AS_IT_STANDS) and text != _AS_IT_STANDS:
        return Place(os.path.join(root, text.removesuffix(_AS_IT_STANDS)))
    if is_url(text) or is_url(root):
        wanted = "a file of this machine, because nothing is downloaded"
        raise FaultyShowError("a URL", wanted, "copy it here first")
    if text.startswith("|") or text.endswith("|"):
        remedy = "run it, keep what it writes as an archive with an scp, and list that"
        raise FaultyShowError("a command", "a file, because commands are not run", remedy)
    match = _PLACE.fullmatch(text)
    if match is None:
        raise FaultyShowError("an empty path", "the path of a feature file", _CORRECT)
    offset = None if match["offset"] is None else int(match["offset"])
    return Place(os.path.join(root, match["file"]), offset, (match["rows"] or "")[1:-1].strip())


def place_of(path: str) -> str:
    """Write the path of a file so that `parse_place` takes all of it as the name of the file."""
    with contextlib.suppress(FaultyShowError):
        if parse_place(path) == Place(path):
            return path
    return path if is_url(path) or not path else path + _AS_IT_STANDS


def is_url(text: str) -> bool:
    """Whether a text is a URL such as ``s3://bucket/features``."""
    return _URL.match(text) is not None


def as_labels(values: npt.NDArray[Any]) -> Labels:
    """Convert numbers to labels; texts and NaN are refused, because NumPy takes them for True."""
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        found = f"voice-activity labels that are no numbers (type {values.dtype})"
        raise FaultyShowError(found, "0 or 1 for each frame", "make the labels again")
    return values.astype(bool)


class Sources:
    """Opened feature files of one format, or of all formats (``auto``); eight files stay open."""

    def __init__(self, format: str, datasets: tuple[str, ...]) -> None:
        self._format, self._datasets = format, datasets
        self._open: dict[str, Source] = {}

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1].close()

    def get(self, path: str) -> Source:
        """Return the opened file of a path."""
        source = self._open.pop(path, None)
        if source is None:
            while len(self._open) >= _OPEN_FILES:
                self._open.pop(next(iter(self._open))).close()
            source = _opened(path, self._format, self._datasets)
        self._open[path] = source
        return source


def _opened(path: str, format: str, datasets: tuple[str, ...]) -> Source:
    """Open a file with the reader of its format."""
    where = "correct the list, root or pattern"
    if not os.path.isfile(path) and os.path.exists(path):  # Opening a pipe would wait for a writer.
        raise FaultyShowError("not a regular file", "a feature file", where)
    if format in ("auto", "sidekit") and path.endswith(_HDF5_SUFFIXES):
        # HDF5 checks the content too, and one opening less per file matters in long lists.
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
        found = f"cannot be read ({reason_of(error)})"
        raise FaultyShowError(found, _READABLE, "fix its permissions") from None
    if size == 0:
        raise FaultyShowError("an empty file", "a feature file", "extract its features again")
    formats = formats_of(head, size)
    for name in formats if format == "auto" else {format}.intersection(formats):
        return _reader(name).Source(path, datasets)
    if what := foreign(head):
        raise FaultyShowError(what, "a feature file", "unpack or convert it, and correct the list")
    wanted = f"a feature file in the format {', '.join(READERS) if format == 'auto' else format}"
    remedy = "extract its features again or correct features: format"
    raise FaultyShowError("damaged, or in no known format", wanted, remedy)


def _reader(name: str) -> Any:
    return importlib.import_module(f"gmmcore.data.readers.{name}")
