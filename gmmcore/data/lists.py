"""Feature lists in several formats, read to one form."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from gmmcore.config.features import FeatureSettings
from gmmcore.data.readers.faults import Fault, FaultyShowError
from gmmcore.errors import GmmcoreError
from gmmcore.files import check_regular, read_bytes, reason_of

__all__ = ["SUFFIXES", "Entry", "Listing", "read_list"]

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
