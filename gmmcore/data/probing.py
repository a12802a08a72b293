"""Looking up the size of every show of a list, in several processes if there are many files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import NamedTuple

from gmmcore.config.features import FeatureSettings
from gmmcore.data.lists import Entry
from gmmcore.data.readers.faults import Fault, FaultyShowError, reading
from gmmcore.data.shows import ShowReader
from gmmcore.data.table import Row
from gmmcore.errors import GmmcoreError

__all__ = ["Probed", "probe"]

_CHUNK = 2000
_MOST_PROCESSES = 8
_LARGEST = 16 << 30
"""Largest size of the frames of one row in bytes, which does not depend on the machine."""
_reader: ShowReader  # That of a process which helps another one.


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
    given = [entries[i] for i in order]
    processes = min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)
    many = len({entry.path for entry in entries}) > 2 * _CHUNK and settings.format != "kaldi"
    results: Iterable[Probed | Fault]
    if many and processes > 1:
        try:
            with ProcessPoolExecutor(processes, get_context("spawn"), _start, (settings,)) as pool:
                results = list(pool.map(_probe_apart, given, chunksize=_CHUNK))
        except BrokenProcessPool:
            raise GmmcoreError(
                f"{settings.list}: a process that looked up the shows was killed; expected memory "
                "for it, and feature files that do not crash the HDF5 library; give the job more "
                "memory, or check the latest files"
            ) from None
    else:
        with ShowReader(settings) as reader:
            results = [_probe(entry, reader) for entry in given]
    found = dict(zip(order, results, strict=True))
    return [found[i] for i in range(len(entries))]


def _start(settings: FeatureSettings) -> None:
    global _reader
    _reader = ShowReader(settings)


def _probe_apart(entry: Entry) -> Probed | Fault:
    return _probe(entry, _reader)


def _probe(entry: Entry, reader: ShowReader) -> Probed | Fault:
    try:
        return _probed(entry, reader)
    except FaultyShowError as error:
        return error.fault(entry.show, entry.path)


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
