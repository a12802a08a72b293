"""Lists of shows in several forms, voice-activity labels, and speakers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

from gmmcore.config.keys import FeatureSettings
from gmmcore.data.readers import (
    Description,
    Fault,
    FaultyShowError,
    Labels,
    Place,
    Source,
    Sources,
    as_labels,
    is_url,
    parse_place,
    place_of,
    sidekit,
)
from gmmcore.data.readers.recognition import foreign, formats_of
from gmmcore.errors import GmmcoreError
from gmmcore.files import check_regular, read_bytes, reason_of

SUFFIXES = (".h5", ".hdf5", ".npy", ".npz", ".htk", ".fea", ".mfc")
"""Suffixes of feature files in a folder."""
_SCRIPT = re.compile(r"(?P<logical>[^=]+)=(?P<place>.+\[\s*\d+\s*,\s*\d+\s*\])")
_PLACE = re.compile(r"[./]\S*(?::\d+|\])$|\|$")
_SHOW = re.compile(r"\{(?:show)?\}")


class Entry(NamedTuple):
    """A line of a list: the frames first <= i < last of a show; None means no limit."""

    show: str
    path: str
    first: int | None = None
    last: int | None = None


class Listing(NamedTuple):
    """The entries of a list, and the faults of unclear lines."""

    entries: list[Entry]
    faults: list[Fault]


def read_list(settings: FeatureSettings) -> Listing:
    """Read a feature list, which is recognised by its content; docs/features.md has its forms."""
    path = settings.list
    if os.path.isdir(path):
        lines: Iterable[Entry | Fault] = _folder(settings)
    elif "sidekit" in (formats := _formats(path)):
        lines = _hdf5(settings)
    elif formats in (["npy"], ["htk"]):
        stem, place = os.path.splitext(os.path.basename(path))[0], _from_root(path, settings)
        lines = [Entry(stem, place)]
    else:
        lines = _text_list(settings)
    listing = Listing([], [])
    for line in lines:
        if isinstance(line, Fault):
            listing.faults.append(line)
        elif (line.show + line.path).isprintable():
            listing.entries.append(line)
        else:
            # Control characters would break the table of shows.
            is_text = not re.search("[\ud800-\udfff]", line.show + line.path)
            what = "control characters" if is_text else "bytes that are not UTF-8"
            texts = f"{what} in its name or path", "printable characters", "rename it"
            listing.faults.append(Fault(line.show, line.path, *texts))
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


def read_speakers(path: str) -> dict[str, str]:
    """Read the speaker of each show from lines ``show speaker``."""
    result: dict[str, str] = {}
    for number, line in lines_of(path, "lines `show speaker`", "held_out.speakers"):
        show, speaker = _two(line.rsplit(None, 1))  # A show may have spaces.
        if not show or result.setdefault(show, speaker) != speaker:
            raise unclear_line(path, number, line, "a show and its one speaker")
    return result


def lines_of(path: str, what: str, key: str) -> Iterator[tuple[int, str]]:
    """Yield numbers and texts of the lines of a file but blank ones and comments."""
    for number, line in enumerate(text_of(path, what, key).split("\n"), 1):
        if line.strip() and not line.startswith("#"):
            yield number, line.rstrip("\r")


def _two(words: list[str]) -> tuple[str, str]:
    """Return two words without space around them; two empty ones if there are not two."""
    return (words[0].strip(), words[1].strip()) if len(words) == 2 else ("", "")


def text_of(path: str, what: str, key: str) -> str:
    """Read a text; an error names the expected content and the `key` to correct."""
    _refuse_url(path, key)
    try:
        os.stat(path)  # The error of `read_bytes` does not know the key.
        check_regular(path)
        content = read_bytes(path)
        formats = formats_of(content[:4096], len(content))
        if not formats:
            return content.decode("utf-8-sig")
        found = f"a feature file in the format {formats[0]}"
        if formats[0] == "kaldi":
            found = "a Kaldi archive, whose scp is wanted, such as feats.scp"
    except UnicodeDecodeError:
        found = foreign(content) or "not text in UTF-8"
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path.
        found = f"cannot be read: {reason_of(error)}"
    raise GmmcoreError(f"{path}: {found}; expected {what}; correct {key}")


def unclear_line(path: str, number: int, line: str, expected: str) -> GmmcoreError:
    return GmmcoreError(f"{path}: line {number} is {line[:60]!r}; expected {expected}; correct it")


def _formats(path: str) -> list[str]:
    """Name the formats of features that the list itself may have."""
    _refuse_url(path, "features: list, or the `list` that names it")
    try:
        check_regular(path)
        with open(path, "rb") as stream:
            return formats_of(stream.read(4096), os.fstat(stream.fileno()).st_size)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path.
        raise GmmcoreError(
            f"{path}: the feature list cannot be read: {reason_of(error)}; "
            "correct features: list, or the `list` that names it"
        ) from None


def _refuse_url(path: str, key: str) -> None:
    if is_url(path):
        raise GmmcoreError(
            f"{path}: a URL; expected a file or a folder of this machine, because nothing is "
            f"downloaded; copy it here first, and correct {key}"
        )


def _path_of(show: str, settings: FeatureSettings) -> str:
    if settings.pattern is None:
        raise GmmcoreError(
            f"{settings.list}: names shows without paths; expected features: pattern, "
            'such as "{show}.h5"; add it to the configuration'
        )
    return place_of(_SHOW.sub(lambda _: show, settings.pattern))


def _from_root(path: str, settings: FeatureSettings) -> str:
    """Write the path of a file as in a list."""
    return place_of(os.path.relpath(path, settings.folder or "."))


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

    def fail(error: OSError) -> None:
        what = f"cannot be listed: {error.strerror}; fix its permissions"
        raise GmmcoreError(f"{error.filename}: {what}")

    names = []
    for parent, _, files in os.walk(settings.list, onerror=fail):
        below = os.path.relpath(parent, settings.list)
        names += [os.path.normpath(os.path.join(below, file)) for file in files]
    inside = os.path.relpath(settings.list, settings.folder or ".")
    for name in sorted(names):
        if match := expression.fullmatch(name):
            yield Entry(match["show"], place_of(os.path.normpath(os.path.join(inside, name))))


def _text_list(settings: FeatureSettings) -> Iterator[Entry | Fault]:
    lines = [*lines_of(settings.list, "a feature list, text or HDF5", "features: list")]
    columns = ["show", "path", "start", "stop"]
    is_scp = _is_scp([line for _, line in lines], settings)
    for number, line in lines:
        show, place = _two(line.split(None, 1))
        fields = line.rstrip().split("\t")
        if is_scp and len(fields) <= 2:
            if show:
                yield Entry(show, place)
            else:
                yield _unclear(settings, number, line, "a show and the place of its frames")
            continue
        if fields[0] == "show" and "path" in fields:
            columns = fields
            continue
        if len(fields) == 1:
            yield _one_word(line.strip(), settings)
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


def _is_scp(lines: list[str], settings: FeatureSettings) -> bool:
    """Whether most lines are ``show place``: with a pattern, a show may have spaces, too."""
    pairs = [_two(line.split(None, 1)) for line in lines if "\t" not in line.rstrip()]
    places = [place for _, place in pairs if place]
    is_sure = settings.pattern is None or settings.list.endswith(".scp")
    if places and not (is_sure or os.path.isfile(os.path.join(settings.folder, places[0]))):
        places = [place for place in places if _PLACE.search(place)]
    return 0 < len(lines) <= 2 * len(places)


def _one_word(word: str, settings: FeatureSettings) -> Entry:
    """Read a line with one word: a show, or a path as in a script file of HTK."""
    match = _SCRIPT.fullmatch(word)
    if match is None and settings.pattern is not None:
        return Entry(word, _path_of(word, settings))
    word = re.sub(r"^([\"'])(.*)\1$", r"\2", word)
    is_file = os.path.isfile(os.path.join(settings.folder, word))
    if match is None and "=" in word and not is_file:
        match = re.fullmatch(r"(?P<logical>[^=]+)=(?P<place>.+)", word)
    if match is not None:
        return Entry(_without_suffix(match["logical"]), match["place"])
    if not is_file and "/" not in word and "." not in word:
        return Entry(word, _path_of(word, settings))  # It says that a pattern is missing.
    return Entry(_without_suffix(word), place_of(word) if is_file else word)


def _without_suffix(path: str) -> str:
    """Name the show of a file; a range remains, because a file may be listed in parts."""
    name, bracket, rows = path.partition("[")
    return os.path.splitext(name)[0] + bracket + rows


def _frame(text: str) -> int | None:
    if text and re.fullmatch(r"\d{1,15}", text) is None:
        raise ValueError
    return int(text) if text else None


def _unclear(settings: FeatureSettings, number: int, line: str, expected: str) -> Fault:
    found = line if len(line) <= 60 else line[:60] + "..."
    return Fault(f"line {number}", settings.list, repr(found), expected, "correct the list")


def _hdf5(settings: FeatureSettings) -> Iterator[Entry | Fault]:
    path = settings.list
    try:
        with closing(sidekit.Source(path, settings.datasets)) as source:
            shows = sidekit.read_dataset(source, "rightids")
            if shows is None:
                place = _from_root(path, settings)
                stem = os.path.splitext(os.path.basename(path))[0]
                yield from (Entry(show or stem, place) for show in source.shows)
                return
            limits = [sidekit.read_dataset(source, name) for name in ("start", "stop")]
    except FaultyShowError as error:
        raise GmmcoreError(f"{path}: {error}") from None
    try:
        names = [v.decode() if isinstance(v, bytes) else str(v) for v in shows.reshape(-1)]
    except UnicodeDecodeError:
        raise GmmcoreError(
            f"{path}: rightids: names that are not UTF-8; expected names of shows; "
            "write the IdMap again"
        ) from None
    for i, show in enumerate(names):
        try:
            first, last = (_limit(values, i) for values in limits)
        except (ArithmeticError, TypeError, ValueError):
            found = "start or stop that is no number"
            yield Fault(show, path, found, "frame numbers", "write the IdMap again")
            continue
        yield Entry(show, _path_of(show, settings), first, last)


def _limit(values: Any, i: int) -> int | None:
    """Return a frame number, or None without a limit: -1, or NaN in older files."""
    if values is None or i >= values.size:
        return None
    value = float(values.reshape(-1)[i])
    return int(value) if value >= 0 else None


class LabelSource:
    """Voice-activity labels of a list's shows: none, in the feature files, vad.scp or segments."""

    def __init__(self, settings: FeatureSettings) -> None:
        self._vad = path = settings.vad
        self._is_beside = path == "file"
        self._sources = Sources("auto", ("vad",))
        self._entries: dict[str, str] = {}  # Those of a vad.scp, whose places these are:
        self._places: dict[str, Place] = {}
        self._segments: dict[str, list[tuple[int, int]]] = {}
        if path is None or self._is_beside:
            return
        root = settings.root or os.path.dirname(path)
        for number, line in lines_of(path, "a Kaldi vad.scp or a segments file", "features: vad"):
            show, value = _two(line.split(None, 1))
            if not show:
                raise unclear_line(path, number, line, "a show and its labels")
            match = re.fullmatch(r"(\d{1,15})\s+(\d{1,15})", value)
            if match and not self._places:
                self._segments.setdefault(show, []).append((int(match[1]), int(match[2])))
            elif self._segments or re.fullmatch(r"[-\d.\s]*|[^./:|\]]*", value):
                raise unclear_line(path, number, line, "two frame numbers after the show")
            else:
                try:
                    self._places[show] = parse_place(value, root)
                except FaultyShowError as error:
                    raise GmmcoreError(f"{path}: line {number}: {error}") from None
                self._entries[show] = value

    def close(self) -> None:
        """Close the files of a vad.scp."""
        self._sources.close()

    @property
    def own(self) -> bool:
        """Whether the labels are in files of their own."""
        return self._vad is not None and not self._is_beside

    def check(self, show: str, description: Description) -> bool:
        """Return whether a show has labels; labels that do not fit its frames are a fault."""
        if self._is_beside:
            if description.labels is not None:
                _check_length(description.labels, description.frames)
            return description.labels is not None
        if self.own and self.identity(show) is None:
            found, remedy = f"no line in {self._vad}", "add it, or remove the show"
            raise FaultyShowError(found, "its voice-activity labels", remedy)
        for first, last in self._segments.get(show, []):
            if not first < last <= description.frames:
                found = f"the segment {first} to {last} in {self._vad}"
                wanted = f"frames from 0 to {description.frames}"
                raise FaultyShowError(found, wanted, "correct it")
        return True

    def read(
        self, show: str, source: Source, place: Place, first: int, last: int, frames: int
    ) -> Labels:
        """Read the labels of the frames first <= i < last of a show with `frames` frames."""
        if self._vad is None:
            return np.ones(last - first, dtype=bool)
        if self._is_beside:
            labels = source.labels(show, place, first, last)
            _check_length(0 if labels is None else len(labels), last - first)
            assert labels is not None
            return labels
        if self._places:
            labels_at = self._places[show]
            try:
                whole = as_labels(self._sources.get(labels_at.file).vector(show, labels_at))
            except FaultyShowError as error:
                found = f"its labels in {labels_at.file}: {error.found}"
                raise FaultyShowError(found, error.expected, "correct the vad.scp") from None
            _check_length(len(whole), frames)
            return whole[first:last]
        whole = np.zeros(frames, dtype=bool)
        for begin, end in self._segments[show]:
            whole[begin:end] = True
        return whole[first:last]

    def identity(self, show: str) -> Any:
        """Return the entry of a show in the vad.scp or segments file, as a JSON value."""
        return self._entries.get(show) or self._segments.get(show)

    def files(self) -> list[str]:
        """List the files in a vad.scp."""
        return sorted({place.file for place in self._places.values()})

    def file_of(self, show: str) -> str | None:
        """Return the file of a show in a vad.scp, or None."""
        return self._places[show].file if show in self._places else None


def _check_length(labels: int, frames: int) -> None:
    if labels != frames:
        found, wanted = f"{labels} voice-activity labels", f"{frames}, one per frame"
        raise FaultyShowError(found, wanted, "make the labels again")
