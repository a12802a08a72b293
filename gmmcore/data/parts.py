"""The two parts of a list of which a share is held out: whole shows, or all shows of a speaker."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

from gmmcore.config.features import FeaturePart, FeatureSettings
from gmmcore.data.table import Row
from gmmcore.errors import GmmcoreError, counted
from gmmcore.files import read_bytes

__all__ = ["drawn", "part_of", "read_speakers"]


def drawn(frames: Mapping[str, int], share: float, seed: int) -> set[str]:
    """Draw the shows, or speakers, to hold out, by their numbers of frames.

    A hash of seed and name gives all of them an order. The first ones are held out, until they have
    the share of all frames. So the order of the mapping does not matter, and a larger share holds
    out the same ones and others.

    Examples
    --------
    >>> from gmmcore.data.parts import drawn
    >>> drawn({"a": 100, "b": 100, "c": 100, "d": 100}, share=0.25, seed=1)
    {'c'}
    """

    def place(name: str) -> tuple[bytes, str]:
        return hashlib.sha256(f"held out {seed} {name}".encode()).digest(), name

    wanted, found = share * sum(frames.values()), set[str]()
    for name in sorted(frames, key=place):
        if wanted > 0:
            found.add(name)
            wanted -= frames[name]
    return found


def part_of(rows: list[Row], settings: FeatureSettings) -> list[Row]:
    """Return the rows of the part of a list that the settings name, in the order of the list.

    Raises
    ------
    GmmcoreError
        If no show is left to train on, or the speaker of a show is not known.
    """
    if not isinstance(settings, FeaturePart) or not settings.share or not rows:
        return rows
    speakers = read_speakers(settings.speakers) if settings.speakers else {}
    unknown = {row.show for row in rows} - speakers.keys() if settings.speakers else set()
    if unknown:
        raise GmmcoreError(
            f"{settings.speakers}: names no speaker of {counted(len(unknown), 'show')}, such as "
            f"{min(unknown)}; expected a line `show speaker` for each; add them"
        )
    frames: Counter[str] = Counter()
    for row in rows:
        frames[speakers.get(row.show, row.show)] += row.last - row.first
    held = drawn(frames, settings.share, settings.seed)
    if len(held) == len(frames):
        what = "speaker" if settings.speakers else "show"
        raise GmmcoreError(
            f"{settings.list}: a share of {settings.share:g} of {counted(len(frames), what)} to "
            f"hold out leaves none to train on; lower held_out.share, or add shows"
        )
    is_held = settings.part == "held_out"
    return [row for row in rows if (speakers.get(row.show, row.show) in held) is is_held]


def read_speakers(path: str) -> dict[str, str]:
    """Read the speaker of each show from a text with lines ``show speaker``.

    Empty lines, and lines that begin with ``#``, are skipped.

    Raises
    ------
    GmmcoreError
        If the file cannot be read, or a line is not clear.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise GmmcoreError(
            f"{path}: not text in UTF-8; expected lines `show speaker`; correct held_out.speakers"
        ) from None
    result: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.rsplit(None, 1)
        if len(words) != 2 or result.setdefault(words[0].strip(), words[1]) != words[1]:
            raise GmmcoreError(
                f"{path}: line {number} is {line[:60]!r}; expected a show and its one speaker; "
                "correct it"
            )
    return result
