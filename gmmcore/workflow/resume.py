"""What is valid of a stage's iterations: where a job goes on.

A file is valid if it is intact and was made by the current settings from files that are valid.
Every file holds what is needed to tell: digests of its content, of its settings and of what it was
made from. The functions here only read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmmcore.config.keys import IterationSettings
from gmmcore.core.schedule import Course, iteration_name, place_of
from gmmcore.data.corpus import Corpus
from gmmcore.files import digest_of, sha256_of
from gmmcore.workflow.provenance import settings_digest
from gmmcore.workflow.verified import sealed_state

__all__ = [
    "OTHER_SETTINGS",
    "Walk",
    "checksums",
    "is_iteration",
    "mixture_path",
    "stale",
    "sums_head",
    "superseded",
    "walk_iterations",
]

OTHER_SETTINGS = "made with other settings"


@dataclass(frozen=True)
class Walk:
    """Valid iterations at the beginning of a stage.

    Attributes
    ----------
    last : int
        Number of the last valid iteration; 0 stands for the stage's first mixture.
    digest : str
        Digest of the file of the last valid iteration.
    complete : bool
        Whether the stage ends with this iteration.
    fault : str
        Description of what is wrong with the file of the next iteration; empty if there is no
        such file.
    """

    last: int
    digest: str
    complete: bool
    fault: str = ""


def mixture_path(folder: str | os.PathLike[str], iteration: int) -> str:
    """Return the file of an iteration in the folder of a stage."""
    return os.path.join(folder, f"{iteration_name(iteration)}.h5")


def walk_iterations(
    folder: str | os.PathLike[str],
    first: str,
    corpus: Corpus,
    held_out: Corpus | None,
    settings: str,
    course: Course,
) -> Walk:
    """Follow the iterations in a stage's folder as long as they are valid.

    Parameters
    ----------
    folder
        Folder of the stage.
    first, settings
        Digests of the stage's first mixture and of the settings of ``maximise``.
    corpus, held_out
        The frames to train on, and those that are held out.
    course
        What each iteration reads, and when the stage ends.
    """
    digest, last, level = first, 0, course.next_level(0, 0, None)
    while level is not None:
        path = mixture_path(folder, last + 1)
        if not os.path.lexists(path):
            return Walk(last, digest, False)
        facts, fault = sealed_state(path)
        fault = fault or stale(facts, last + 1, settings, corpus.digest, digest)
        if not fault and facts.get("held_out_frames") != digest_of_held_out(held_out):
            fault = "made with other held-out frames"
        if not fault and facts["level"] != level:
            fault = OTHER_SETTINGS
        if fault:
            return Walk(last, digest, False, fault)
        last, digest = last + 1, facts["digest"]
        level = course.next_level(*place_of(facts))
    return Walk(last, digest, True)


def digest_of_held_out(held_out: Corpus | None) -> str | None:
    """Return what mixtures say of the held-out frames."""
    return None if held_out is None else held_out.digest


def is_iteration(
    path: str, before: str, settings: IterationSettings, level: int, held_out: Corpus | None
) -> bool:
    """Whether a file is the mixture made from the one with digest `before` in this way."""
    facts, fault = sealed_state(path)
    found = tuple(map(facts.get, ("parent", "settings", "held_out_frames", "level")))
    wanted = (before, settings_digest("maximise", settings), digest_of_held_out(held_out), level)
    return not fault and found == wanted


def superseded(folder: str | os.PathLike[str], last: int) -> Iterator[Path]:
    """Yield the files in a stage's folder that are obsolete once `last` is its last iteration."""
    for path in Path(folder).glob("*.h5"):
        if path.stem.isdigit() and int(path.stem) > last:
            yield path
    yield from Path(folder).glob("*/*.stats.h5")


def checksums(folder: str | os.PathLike[str], names: list[str]) -> str:
    """Write the text of ``SHA256SUMS``, for ``sha256sum -c``.

    The first line is a comment with a digest of the name of the run and the other lines.

    Raises
    ------
    GmmcoreError
        If a file cannot be read.
    """
    lines = "".join(f"{sha256_of(f'{folder}/{name}')}  {name}\n" for name in names)
    return f"{sums_head(folder, lines)}\n{lines}"


def sums_head(folder: str | os.PathLike[str], lines: str) -> str:
    name = os.path.basename(os.path.normpath(folder))
    return f"# {digest_of(name, lines)}"


def stale(
    facts: dict[str, Any], iteration: int, settings: str, corpus: str, parent: str | None
) -> str:
    """Say why a mixture cannot be used; empty if it can."""
    if facts.get("settings") != settings:
        return OTHER_SETTINGS
    if facts.get("corpus") != corpus:
        return "made from other frames"
    if facts.get("parent") != parent:
        return "made from another mixture"
    return "" if facts.get("iteration") == iteration else "not the mixture of this name"
