"""Looking up the size of every show of a list, in several processes if there are many files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from gmmcore.corpus.lists import Entry
from gmmcore.corpus.shows import ShowReader
from gmmcore.corpus.table import Row
from gmmcore.errors import GmmcoreError
from gmmcore.features.settings import FeatureSettings
from gmmcore.readers.faults import Fault, FaultyShowError, reading

__all__ = ["Probed", "probe"]

_CHUNK = 2000
_MOST_PROCESSES = 8
_LARGEST = 16 << 30
"""Largest size of the frames of one row in bytes, which does not depend on the machine."""


class Probed(NamedTuple):
    """A usable show, with the dimension of its frames and whether it has the labels wanted."""

    row: Row
    dimension: int
    labelled: bool = True


def probe(entries: Sequence[Entry], settings: FeatureSettings) -> list[Probed | Fault]:
    """Look up each entry of a list, in the order of the entries.

    Files are opened in the order of their paths. HDF5 takes a third of a millisecond per file and
    runs in one thread only, so that long lists are shared among several processes: at most one
    for each processor of the job. The result does not depend on their number.
    """
    order = sorted(range(len(entries)), key=lambda i: entries[i].path)
    chunks = [order[i : i + _CHUNK] for i in range(0, len(order), _CHUNK)]
    work = [[entries[i] for i in chunk] for chunk in chunks]
    files = len({entry.path for entry in entries}) if len(chunks) > 2 else 0
    processes = min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)
    if files > 2 * _CHUNK and processes > 1 and settings.format != "kaldi":
        from concurrent.futures import ProcessPoolExecutor
        from concurrent.futures.process import BrokenProcessPool
        from multiprocessing import get_context

        try:
            with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
                results = list(pool.map(_probe_chunk, work, [settings] * len(work)))
        except BrokenProcessPool:
            raise GmmcoreError(
                f"{settings.list}: a process that looked up the shows was killed; expected memory "
                "for it, and feature files that do not crash the HDF5 library; give the job more "
                "memory, or check the latest files"
            ) from None
    else:
        results = [_probe_chunk(part, settings) for part in work]
    found: dict[int, Probed | Fault] = {}
    for chunk, result in zip(chunks, results, strict=True):
        found.update(zip(chunk, result, strict=True))
    return [found[i] for i in range(len(entries))]


def _probe_chunk(entries: Sequence[Entry], settings: FeatureSettings) -> list[Probed | Fault]:
    result: list[Probed | Fault] = []
    with ShowReader(settings) as reader:
        for entry in entries:
            try:
                result.append(_probed(entry, reader))
            except FaultyShowError as error:
                result.append(error.fault(entry.show, entry.path))
    return result


@reading()
def _probed(entry: Entry, reader: ShowReader) -> Probed:
    source, place = reader.opened(entry.path)
    description = source.describe(entry.show, place)
    count = description.frames
    if count < 1 or description.dimension < 1:
        raise FaultyShowError(
            f"{count} frames of {description.dimension} coefficients",
            "at least one of each",
            "remove the show, or extract it again",
        )
    first = entry.first or 0
    last = count if entry.last is None else entry.last
    if not first < last <= count:
        raise FaultyShowError(
            f"the segment {first} to {last}",
            f"one within its frames 0 to {count}",
            "correct the list",
        )
    if 4 * (last - first) * description.dimension > _LARGEST:
        raise FaultyShowError(
            f"{last - first} frames of {description.dimension} coefficients",
            f"at most {_LARGEST >> 30} GiB of them in float32",
            "list it in segments, or extract it again",
        )
    labelled = reader.label_source.check(entry.show, description)
    row = Row(entry.show, entry.path, first, last, count, "")
    return Probed(row, description.dimension, labelled)
