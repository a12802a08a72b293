"""Voice-activity labels: beside the frames, in a Kaldi vad.scp, or in a segments file."""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.config.features import FeatureSettings
from gmmcore.data.readers import Description, Place, Source, as_labels, parse_place
from gmmcore.data.readers.faults import FaultyShowError
from gmmcore.errors import GmmcoreError
from gmmcore.files import check_regular, read_bytes

__all__ = ["LabelSource"]

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
