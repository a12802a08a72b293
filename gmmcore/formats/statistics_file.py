"""Statistics files of one or more shards, valid for one mixture and one set of settings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gmmcore.errors import GmmcoreError
from gmmcore.files import PathLike
from gmmcore.formats.image import hdf5_image, open_image
from gmmcore.sealed import seal, unseal
from gmmcore.statistics import Statistics

if TYPE_CHECKING:
    import h5py

__all__ = ["ShardStatistics", "in_order", "read_statistics", "save_statistics"]

KIND = "statistics"
_FIELDS = ("count", "first", "second", "origin")


@dataclass(frozen=True)
class ShardStatistics:
    """Statistics of one shard.

    Attributes
    ----------
    shard : str
        Name of the shard.
    content_digest : str
        Digest of its frames.
    statistics : Statistics
    source : str
        The file they come from, for messages.
    """

    shard: str
    content_digest: str
    statistics: Statistics
    source: str


def save_statistics(
    path: PathLike,
    entries: Sequence[ShardStatistics],
    *,
    mixture: str,
    level: int,
    settings: str,
    arithmetic: str | None = None,
) -> str:
    """Write the statistics of shards one by one; a reader adds them, in its own order.

    Parameters
    ----------
    path
        The file to write, whole or not at all.
    entries
        Statistics of different shards.
    mixture
        Digest of the mixture file.
    level
        Level of the subset of the frames; see `gmmcore.schedule.Course`.
    settings
        Digest of the E-step's settings.
    arithmetic
        What computed them, in the words of `gmmcore.processor.in_use`.

    Returns
    -------
    str
        The file's digest.
    """

    def build(file: h5py.File) -> None:
        for position, entry in enumerate(entries):
            group = file.create_group(f"{position:06d}")
            statistics = entry.statistics
            group.attrs["shard"] = entry.shard
            group.attrs["content_digest"] = entry.content_digest
            group.attrs["frames"] = statistics.frames
            group.attrs["log_likelihood"] = statistics.log_likelihood
            group.attrs["is_full"] = statistics.is_full
            for name in _FIELDS:
                group[name] = getattr(statistics, name)

    facts = {"mixture": mixture, "level": level, "settings": settings, "arithmetic": arithmetic}
    return seal(path, KIND, hdf5_image(build), **facts)


def read_statistics(
    paths: Iterable[PathLike],
    *,
    mixture: str,
    level: int,
    settings: str,
    makers: list[str | None] | None = None,
) -> Iterator[ShardStatistics]:
    """Read the statistics in some files, in the order of the files.

    Parameters
    ----------
    paths
        Statistics files.
    mixture, level, settings
        Those that the files must carry.
    makers
        List to which the ``arithmetic`` of each file that is read is appended.

    Raises
    ------
    DamagedFileError
        If a file is truncated or altered.
    GmmcoreError
        If a file belongs to another mixture or to other settings.
    """
    for path in paths:
        facts, content = unseal(path, KIND)
        for name, wanted in (("mixture", mixture), ("level", level), ("settings", settings)):
            if facts.get(name) != wanted:
                raise GmmcoreError(
                    f"{path}: statistics of another {name} "
                    f"({str(facts.get(name))[:12]}, not {str(wanted)[:12]}); remove the file"
                )
        if makers is not None:
            makers.append(facts.get("arithmetic"))
        with open_image(path, content) as file:
            for group in file.values():
                yield _entry(group, os.fspath(path))


def in_order(
    entries: Iterable[ShardStatistics], shards: Sequence[tuple[str, str]]
) -> Iterator[ShardStatistics]:
    """Pass on statistics that are exactly those of some shards, in their order.

    Parameters
    ----------
    entries
        Statistics of shards.
    shards
        Names and content digests of the shards that must be there, each once.

    Raises
    ------
    GmmcoreError
        If one belongs to another shard or to other frames, is missing or there twice, or
        holds a number that is not finite.
    """
    position = 0
    for entry in entries:
        expected = shards[position] if position < len(shards) else ("no other", "")
        where = f"{entry.source}: statistics of shard {entry.shard}"
        if entry.shard != expected[0]:
            raise GmmcoreError(
                f"{where} where those of {expected[0]} were expected; remove the file"
            )
        if entry.content_digest != expected[1]:
            raise GmmcoreError(f"{where} are of other frames; remove the file")
        if not entry.statistics.is_finite():
            raise GmmcoreError(f"{where} hold a number that is not finite; remove the file")
        position += 1
        yield entry
    if position < len(shards):
        raise GmmcoreError(f"the statistics of shard {shards[position][0]} are missing")


def _entry(group: h5py.Group, source: str) -> ShardStatistics:
    attributes = group.attrs
    return ShardStatistics(
        str(attributes["shard"]),
        str(attributes["content_digest"]),
        Statistics(
            count=group["count"][()],
            first=group["first"][()],
            second=group["second"][()],
            origin=group["origin"][()],
            log_likelihood=float(attributes["log_likelihood"]),
            frames=int(attributes["frames"]),
            is_full=bool(attributes["is_full"]),
        ),
        source,
    )
