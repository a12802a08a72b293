"""Types and checks that the readers of feature files share."""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gmmcore.data.readers.faults import FaultyShowError

__all__ = ["Description", "Place", "Source", "as_labels", "parse_place", "quiet"]


def quiet() -> np.errstate:
    """Silence warnings of NumPy for damaged numbers, which are checked after they are read."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


class Description(NamedTuple):
    """Size of a show, as a source has it without reading the frames.

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


class Source:
    """An opened feature file, with the methods of its format; all may raise `FaultyShowError`."""

    def __init__(self, path: str, datasets: tuple[str, ...]) -> None:
        """Open the file; `datasets` are for formats that hold several matrices a show."""

    def describe(self, show: str, place: Place) -> Description:
        """Size of a show; reads no frames."""
        raise NotImplementedError

    def read(self, show: str, place: Place, first: int, last: int) -> npt.NDArray[np.float32]:
        """Return frames first <= i < last, shape (last - first, D), C-contiguous."""
        raise NotImplementedError

    def labels(
        self, show: str, place: Place, first: int, last: int
    ) -> npt.NDArray[np.bool_] | None:
        """Voice-activity labels of these frames, shape (last - first,); None if there are none."""
        return None

    def close(self) -> None:
        """Close the file."""


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


def as_labels(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Convert numbers to voice-activity labels.

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
