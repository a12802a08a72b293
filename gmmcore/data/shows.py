"""The table of checked shows, shows.tsv, and a reader of its rows."""

from __future__ import annotations

import hashlib
import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gmmcore.config.keys import FeatureSettings
from gmmcore.data.lists import LabelSource
from gmmcore.data.normalise import ShowStatistics
from gmmcore.data.process import process, speech_labels, static_part
from gmmcore.data.readers import (
    Fault,
    FaultyShowError,
    Frames,
    Labels,
    Place,
    Source,
    Sources,
    parse_place,
    reading,
)
from gmmcore.errors import DamagedFileError, GmmcoreError, counted
from gmmcore.files import PathLike, read_bytes, remembered, replace_text

_FIRST = "# gmmcore shows: "
_COLUMNS = ("show", "path", "first", "last", "frames", "shard")


class Row(NamedTuple):
    """The frames first <= i < last of a show with `frames` frames at the time of the check."""

    show: str
    path: str
    first: int
    last: int
    frames: int
    shard: str

    def fault(self, found: str, expected: str, remedy: str) -> Fault:
        """Return a fault of this show."""
        return Fault(self.show, self.path, found, expected, remedy)


@dataclass(frozen=True)
class ShowTable:
    """The content of ``shows.tsv``: facts of the whole list, and rows in its order."""

    # Of the facts, ``frames`` are those before selection, ``dimension`` is that after processing.
    facts: dict[str, Any]
    rows: list[Row]

    @property
    def shards(self) -> list[str]:
        """Names of all shards, in rising order."""
        return sorted(self.facts["recipe_digests"])

    def write(self, path: PathLike) -> None:
        """Write a comment with the facts, a header line, and one line per row."""
        body = "".join("\t".join(map(str, line)) + "\n" for line in (_COLUMNS, *self.rows))
        digest = _digest(self.facts, body)
        facts = json.dumps({**self.facts, "digest": digest}, sort_keys=True)
        replace_text(path, f"{_FIRST}{facts}\n{body}")

    @classmethod
    def read(cls, path: PathLike) -> ShowTable:
        """Read and verify a table."""
        facts, body = _verified(path)
        rows = []
        try:
            for line in body.split("\n")[1:-1]:
                # Earlier versions wrote one more column.
                show, place, begin, end, frames, shard = line.split("\t")[: len(_COLUMNS)]
                rows.append(Row(show, place, int(begin), int(end), int(frames), shard))
        except ValueError:
            raise _damaged(path) from None
        return cls(facts, rows)

    @staticmethod
    @remembered
    def read_facts(path: PathLike) -> dict[str, Any]:
        """Read and verify the facts alone; an unchanged table is read only once."""
        return _verified(path)[0]


def check_apart(training: PathLike, held_out: PathLike) -> None:
    """Raise `GmmcoreError` if two tables have a show in common."""
    first, second = (
        {row.show for row in ShowTable.read(path).rows} for path in (training, held_out)
    )
    if both := first & second:
        raise GmmcoreError(
            f"{held_out}: {counted(len(both), 'show')} to hold out, such as {min(both)}, "
            f"also in the list to train on ({training}); expected others; correct one of the lists"
        )


def _verified(path: PathLike) -> tuple[dict[str, Any], str]:
    """Verify the digest of a table, and return its facts and the text after them."""
    try:
        first, body = read_bytes(path).decode().split("\n", 1)
        if not first.startswith(_FIRST):
            raise ValueError
        facts = json.loads(first.removeprefix(_FIRST))
        if facts.pop("digest") != _digest(facts, body):
            raise ValueError
    except (ValueError, KeyError, AttributeError, TypeError):
        raise _damaged(path) from None
    return facts, body


def _damaged(path: PathLike) -> DamagedFileError:
    return DamagedFileError(path, "damaged, or not a list that `gmmcore shows` wrote")


def _digest(facts: dict[str, Any], body: str) -> str:
    first = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(f"{first}\n{body}".encode()).hexdigest()


class ShowReader(AbstractContextManager["ShowReader"]):
    """Reads and processes the shows of a list; a faulty show raises `FaultyShowError`."""

    def __init__(self, settings: FeatureSettings) -> None:
        self.settings = settings
        self.label_source = LabelSource(settings)
        self._sources = Sources(settings.format, settings.datasets)
        self._whole: tuple[tuple[str, str], ShowStatistics] | None = None

    def __exit__(self, *_: object) -> None:
        self._sources.close()
        self.label_source.close()

    def opened(self, path: str) -> tuple[Source, Place]:
        """Open the file of a path in a list; return the file and the place of the frames."""
        place = parse_place(path, self.settings.folder)
        return self._sources.get(place.file), place

    @reading()
    def frames(self, row: Row) -> Frames:
        """Read and process the frames of a row, shape (n, D'), n > 0; all values are finite."""
        try:
            source, place = self.opened(row.path)
            found = source.describe(row.show, place).frames
        except FaultyShowError as error:
            # The check of the list found a valid show.
            raise FaultyShowError(error.found, error.expected, error.remedy, changed=True) from None
        if found != row.frames:
            raise changed_show(f"{found} frames", str(row.frames))
        try:
            frames, labels = self._raw(row, source, place)
            frames, _ = process(frames, labels, self.settings, self._statistics(row, source, place))
        except MemoryError:
            # The memory depends on the machine, so that the show has no fault.
            raise GmmcoreError(
                f"show {row.show} ({row.path}): memory ran out for its {row.frames} frames; "
                "give the job more, or remove the show"
            ) from None
        if not len(frames):
            raise _without_speech(row.last - row.first)
        _check_finite(frames, "after processing")
        return frames

    def _raw(self, row: Row, source: Source, place: Place) -> tuple[Frames, Labels]:
        frames = source.read(row.show, place, row.first, row.last)
        if len(frames) != row.last - row.first:
            raise changed_show(f"{len(frames)} frames could be read", str(row.last - row.first))
        _check_finite(frames, "in the file")
        labels = self.label_source.read(row.show, source, place, row.first, row.last, row.frames)
        return frames, labels

    def _statistics(self, row: Row, source: Source, place: Place) -> ShowStatistics | None:
        """Return the statistics of the speech of the whole show for a global normalisation."""
        if not self.settings.is_global:
            return None
        key = (row.path, row.show)
        if self._whole is None or self._whole[0] != key:
            whole = self._raw(row._replace(first=0, last=row.frames), source, place)
            self._whole = (key, statistics_of_show(*whole, self.settings))
        return self._whole[1]


def statistics_of_show(frames: Frames, labels: Labels, settings: FeatureSettings) -> ShowStatistics:
    """Compute the statistics of the speech of a show from its unprocessed frames and labels."""
    labels = speech_labels(labels, settings)
    if not labels.any():
        raise _without_speech(len(labels))
    return ShowStatistics.of(static_part(frames, settings)[labels])


def changed_show(found: str, expected: str) -> FaultyShowError:
    """Return the error of a show that has changed since its list was checked."""
    expected = f"{expected}, as when the list was checked"
    return FaultyShowError(found, expected, "give the same command again", changed=True)


def _without_speech(frames: int) -> FaultyShowError:
    return FaultyShowError(
        f"its voice-activity labels select no frame of {frames}",
        "some speech",
        "make its labels again, remove the show, or set features: vad to null (all frames)",
    )


def _check_finite(frames: Frames, where: str) -> None:
    finite = np.isfinite(frames)
    if not finite.all():
        frame, coefficient = np.argwhere(~finite)[0]
        values = counted(int((~finite).sum()), "NaN or infinite value")
        raise FaultyShowError(
            f"{values} {where}, the first in frame {frame}, coefficient {coefficient}",
            "finite numbers",
            "extract the show again",
        )
