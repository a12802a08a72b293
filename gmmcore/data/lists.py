"""Lists of shows in several forms, voice-activity labels, and speakers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gmmcore.config.features import FeatureSettings
from gmmcore.data.readers import (
    Description,
    Fault,
    FaultyShowError,
    Place,
    Source,
    as_labels,
    parse_place,
)
from gmmcore.errors import GmmcoreError
from gmmcore.files import check_regular, read_bytes, reason_of

SUFFIXES = (".h5", ".hdf5", ".npy", ".npz", ".htk", ".fea", ".mfc")
"""Suffixes of the feature files that are found in a folder."""
_HDF5 = b"\x89HDF\r\n\x1a\n"
_SHOW = re.compile(r"\{(?:show)?\}")


class Entry(NamedTuple):
    """One line of a list: the frames first <= i < last of a show; None stands for no limit."""

    show: str
    path: str
    first: int | None = None
    last: int | None = None


class Listing(NamedTuple):
    """Entries of a list, and the faults of lines that cannot be understood."""

    entries: list[Entry]
    faults: list[Fault]


def read_list(settings: FeatureSettings) -> Listing:
    """Read a feature list without looking at the feature files it names.

    The list is one of these, recognised by its content or name:

    * a folder: all files that fit the pattern (by default, all with a suffix of feature files),
      sorted by name;
    * an HDF5 file: a SIDEKIT IdMap (``rightids``, ``start``, ``stop``), or a feature file,
      all of whose shows are listed;
    * a text file ``*.scp``: Kaldi's lines of show and place;
    * a text file with tabs: show, path, start and stop, with or without a header line; an empty
      path follows from the pattern, an empty start or stop means no limit;
    * any other text file: one show per line.

    Empty lines and lines that begin with ``#`` are skipped.

    Raises
    ------
    GmmcoreError
        If the list is missing, unreadable or empty, or needs a pattern.
    """
    path = settings.list
    if os.path.isdir(path):
        lines: Iterable[Entry | Fault] = _folder(settings)
    elif _begins_with(path, _HDF5):
        lines = _hdf5(settings)
    else:
        lines = _text(settings)
    listing = Listing([], [])
    for line in lines:
        if isinstance(line, Fault):
            listing.faults.append(line)
        elif (fault := _unprintable(line)) is not None:
            listing.faults.append(fault)
        else:
            listing.entries.append(line)
    if not listing.entries and not listing.faults:
        found = "the feature list is empty"
        if os.path.isdir(path):
            wanted = settings.pattern or ", ".join(f"{{show}}{suffix}" for suffix in SUFFIXES)
            found = f"no file in this folder is called {wanted}"
        raise GmmcoreError(
            f"{path}: {found}; expected at least one show; "
            "correct features: list or features: pattern"
        )
    return listing


def _begins_with(path: str, magic: bytes) -> bool:
    try:
        check_regular(path)
        with open(path, "rb") as stream:
            return stream.read(len(magic)) == magic
    except (OSError, ValueError) as error:  # ValueError: the path has a null byte
        raise GmmcoreError(
            f"{path}: the feature list cannot be read: {reason_of(error)}; correct features: list"
        ) from None


def _unprintable(entry: Entry) -> Fault | None:
    text = entry.show + entry.path
    # Tabs and line ends would break the table; other control characters would hide in it.
    if text.isprintable():
        return None
    return Fault(
        entry.show,
        entry.path,
        "control characters in its name or path",
        "printable characters",
        "rename it",
    )


def _path_of(show: str, settings: FeatureSettings) -> str:
    if settings.pattern is None:
        raise GmmcoreError(
            f"{settings.list}: names shows without paths; expected features: pattern, "
            'such as "{show}.h5"; add it to the configuration'
        )
    return _SHOW.sub(lambda _: show, settings.pattern)


def _folder(settings: FeatureSettings) -> Iterator[Entry | Fault]:
    pattern = settings.pattern
    if pattern is None:
        suffixes = "|".join(re.escape(suffix) for suffix in SUFFIXES)
        expression = re.compile(rf"(?P<show>.+)(?:{suffixes})", re.DOTALL)
    elif _SHOW.search(pattern) is None:
        raise GmmcoreError(
            f"features: pattern: {pattern!r} has no place for the show; "
            'expected a pattern such as "{show}.h5"; correct it'
        )
    else:
        before, *others = (re.escape(part) for part in _SHOW.split(pattern))
        rest = "(?P=show)".join(others)
        expression = re.compile(f"{before}(?P<show>.+){rest}", re.DOTALL)
    inside = os.path.relpath(settings.list, settings.folder or ".")
    for name in sorted(_files_under(settings.list)):
        match = expression.fullmatch(name)
        if match is not None:
            path = name if inside == "." else os.path.join(inside, name)
            yield Entry(match["show"], path)


def _files_under(folder: str) -> Iterator[str]:
    """Yield the paths of all files below `folder`, relative to it."""

    def fail(error: OSError) -> None:
        raise GmmcoreError(
            f"{error.filename}: cannot be listed: {error.strerror}; fix its permissions"
        )

    for parent, _, names in os.walk(folder, onerror=fail):
        inside = os.path.relpath(parent, folder)
        for name in names:
            yield name if inside == "." else os.path.join(inside, name)


def _text(settings: FeatureSettings) -> Iterator[Entry | Fault]:
    try:
        text = read_bytes(settings.list).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise GmmcoreError(
            f"{settings.list}: neither text in UTF-8 nor HDF5; expected a feature list; "
            "correct features: list"
        ) from None
    scp = settings.list.endswith(".scp")
    columns = ["show", "path", "start", "stop"]
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        if not line.strip() or line.startswith("#"):
            continue
        if scp:
            parts = line.split(None, 1)
            if len(parts) != 2 or "|" in parts[1]:
                yield _unclear(settings, number, line, "a show and the place of its frames")
            else:
                yield Entry(parts[0], parts[1].strip())
            continue
        fields = line.split("\t")
        if fields[0] == "show" and "path" in fields:
            columns = fields
            continue
        if len(fields) == 1:
            show = line.strip()
            yield Entry(show, _path_of(show, settings))
            continue
        values = dict(zip(columns, (field.strip() for field in fields), strict=False))
        if len(fields) > len(columns) or not values.get("show"):
            yield _unclear(settings, number, line, "show, path, start, stop between tabs")
            continue
        try:
            first, last = (_frame(values.get(name, "")) for name in ("start", "stop"))
        except ValueError:
            yield _unclear(settings, number, line, "frame numbers as start and stop")
            continue
        show = values["show"]
        yield Entry(show, values.get("path") or _path_of(show, settings), first, last)


def _frame(text: str) -> int | None:
    if not text:
        return None
    if re.fullmatch(r"\d{1,15}", text) is None:
        raise ValueError
    return int(text)


def _unclear(settings: FeatureSettings, number: int, line: str, expected: str) -> Fault:
    found = line if len(line) <= 60 else line[:60] + "..."
    return Fault(f"line {number}", settings.list, repr(found), expected, "correct the list")


def _hdf5(settings: FeatureSettings) -> Iterator[Entry | Fault]:
    from gmmcore.data.readers.sidekit import Source, read_dataset

    path = settings.list
    try:
        source = Source(path, settings.datasets)
        try:
            shows = read_dataset(source, "rightids")
            if shows is None:
                place = os.path.relpath(path, settings.folder or ".")
                yield from (Entry(show, place) for show in source.shows())
                return
            limits = [read_dataset(source, name) for name in ("start", "stop")]
        finally:
            source.close()
    except FaultyShowError as error:
        raise GmmcoreError(f"{path}: {error}") from None
    for i, show in enumerate(_names(shows, path)):
        try:
            first, last = (_limit(values, i) for values in limits)
        except (ArithmeticError, TypeError, ValueError):
            found = "start or stop that is no number"
            yield Fault(show, path, found, "frame numbers", "write the IdMap again")
            continue
        yield Entry(show, _path_of(show, settings), first, last)


def _names(values: Any, path: str) -> list[str]:
    try:
        return [v.decode() if isinstance(v, bytes) else str(v) for v in values.reshape(-1)]
    except UnicodeDecodeError:
        raise GmmcoreError(
            f"{path}: rightids: names that are not UTF-8; expected names of shows; "
            "write the IdMap again"
        ) from None


def _limit(values: Any, i: int) -> int | None:
    """Return a frame number; None for -1, or NaN in older files, which stand for no limit."""
    if values is None or i >= values.size:
        return None
    value = float(values.reshape(-1)[i])
    return int(value) if value >= 0 else None


Labels = npt.NDArray[np.bool_]


class LabelSource:
    """Voice-activity labels of the shows of a list.

    Parameters
    ----------
    settings : FeatureSettings
        ``vad`` is None (all frames are speech), ``file``, the path of a Kaldi ``.scp``, or the
        path of a segments file with lines ``show first last``, for the frames first <= i < last.

    Raises
    ------
    GmmcoreError
        If the scp or the segments file cannot be read.
    """

    def __init__(self, settings: FeatureSettings) -> None:
        self._vad = settings.vad
        self._places: dict[str, str] = {}
        self._segments: dict[str, list[tuple[int, int]]] = {}
        self._root = ""
        self.kind = settings.vad if settings.vad in (None, "file") else "segments"
        if self.kind == "segments":
            assert settings.vad is not None
            if settings.vad.endswith(".scp"):
                self.kind = "scp"
                self._root = settings.root or os.path.dirname(settings.vad)
                self._places = dict(_lines(settings.vad))
            else:
                for show, rest in _lines(settings.vad):
                    self._segments.setdefault(show, []).append(_interval(rest, settings.vad))

    @property
    def own(self) -> bool:
        """Whether the labels are in files of their own."""
        return self.kind not in (None, "file")

    def check(self, show: str, description: Description) -> bool:
        """Check whether a show has labels.

        The lengths of labels in a vad.scp are only checked when they are read.

        Raises
        ------
        FaultyShowError
            If the labels do not fit the frames, or if a vad.scp or a segments file does not name
            the show.
        """
        if self.kind == "file":
            if description.labels is None:
                return False
            _same_length(description.labels, description.frames)
        elif (self.kind == "scp" and show not in self._places) or (
            self.kind == "segments" and show not in self._segments
        ):
            raise FaultyShowError(
                f"no line in {self._vad}", "its voice-activity labels", "add it, or remove the show"
            )
        elif self.kind == "segments":
            for first, last in self._segments[show]:
                if not first < last <= description.frames:
                    raise FaultyShowError(
                        f"the segment {first} to {last} in {self._vad}",
                        f"frames from 0 to {description.frames}",
                        "correct it",
                    )
        return True

    def read(
        self, show: str, source: Source, place: Place, first: int, last: int, frames: int
    ) -> Labels:
        """Read the labels of the frames first <= i < last of a show that has `frames` frames."""
        if self.kind is None:
            return np.ones(last - first, dtype=bool)
        if self.kind == "file":
            labels = source.labels(show, place, first, last)
            if labels is None or len(labels) != last - first:
                _same_length(0 if labels is None else len(labels), last - first)
            assert labels is not None
            return labels
        if self.kind == "scp":
            from gmmcore.data.readers.kaldi import read_vector

            whole = as_labels(read_vector(parse_place(self._places[show], self._root)))
            _same_length(len(whole), frames)
            return whole[first:last]
        whole = np.zeros(frames, dtype=bool)
        for begin, end in self._segments[show]:
            whole[begin:end] = True
        return whole[first:last]

    def identity(self, show: str) -> Any:
        """Return the entry of a show in the vad.scp or segments file, as a JSON value."""
        if self.kind == "scp":
            return self._places.get(show)
        return self._segments.get(show) if self.kind == "segments" else None

    def files(self) -> list[str]:
        """List the files that a vad.scp names."""
        if self.kind == "scp":
            return sorted({parse_place(p, self._root).file for p in self._places.values()})
        return []

    def file_of(self, show: str) -> str | None:
        """Return the file that a vad.scp names for a show; None if there is none."""
        if show not in self._places:
            return None
        return parse_place(self._places[show], self._root).file


def _same_length(labels: int, frames: int) -> None:
    if labels != frames:
        raise FaultyShowError(
            f"{labels} voice-activity labels", f"{frames}, one per frame", "make the labels again"
        )


def _lines(path: str) -> list[tuple[str, str]]:
    try:
        check_regular(path)
        text = read_bytes(path).decode("utf-8-sig")
    except OSError as error:
        raise GmmcoreError(
            f"{path}: {error.strerror}; expected a Kaldi vad.scp or a segments file; "
            "correct features: vad"
        ) from None
    except UnicodeDecodeError:
        raise GmmcoreError(
            f"{path}: not text; expected a Kaldi vad.scp or a segments file; correct features: vad"
        ) from None
    result = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split(None, 1)
        if len(parts) != 2 or "|" in parts[1]:
            raise GmmcoreError(
                f"{path}: line {number}: {line[:60]!r}; expected a show and its labels; correct it"
            )
        result.append((parts[0], parts[1].strip()))
    return result


def _interval(text: str, path: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,15})\s+(\d{1,15})", text)
    if match is None:
        raise GmmcoreError(
            f"{path}: {text[:60]!r}; expected two frame numbers after the show; correct it"
        )
    return int(match[1]), int(match[2])
