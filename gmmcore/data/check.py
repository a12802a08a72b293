"""From a feature list to the table of its shows: sizes, faults, parts, shards, digests."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gmmcore.config.keys import FEATURES_VERSION, FeaturePart, FeatureSettings
from gmmcore.core.schedule import splitmix
from gmmcore.data.lists import Entry, LabelSource, Listing, read_list, read_speakers
from gmmcore.data.process import output_dimension
from gmmcore.data.readers import Fault, FaultyShowError, parse_place, reading, report
from gmmcore.data.shows import Row, ShowReader, ShowTable, shard_name
from gmmcore.errors import GmmcoreError, counted
from gmmcore.files import PathLike, digest_of, remembered, sha256_of

FRAMES_A_SHARD = 250_000
"""Size of a shard with ``shards: auto``: 60 MB of 60 coefficients, some seconds per iteration."""
_MOST_SHARDS = 1000
_SLACK = 1.02
_CHUNK = 2000
_MOST_PROCESSES = 8
_LARGEST = 16 << 30
"""Largest size of the frames of one row in bytes, which does not depend on the machine."""
_reader: ShowReader  # That of a process which helps another one.


@dataclass(frozen=True)
class CheckedList:
    """Table of the shows to use, dealt to shards, and the faults of those that are left out."""

    table: ShowTable
    faults: list[Fault]


class Probed(NamedTuple):
    """A usable show, with the dimension of its frames and whether it has the labels wanted."""

    row: Row
    dimension: int
    labelled: bool = True


def check_list(settings: FeatureSettings, listing: Listing | None = None) -> CheckedList:
    """Check the feature list, or a `listing` in its place, and deal its shows to shards.

    Every file is opened to look up the sizes of its shows, but frames are read only if a fault
    is found and ``on_error`` is ``stop``: then all other shows are read, so that the error has
    one line for each fault of theirs too.
    """
    listing = listing or read_list(settings)
    identity = fingerprint(settings, listing)
    faults = list(listing.faults)
    found = probe(listing.entries, settings)
    faults += [item for item in found if isinstance(item, Fault)]
    probed = [item for item in found if isinstance(item, Probed)]
    settings, probed = _labelled(settings, probed, faults)
    probed = _of_one_dimension(probed, faults)
    rows = _without_duplicates([show.row for show in probed], faults)
    raw = probed[0].dimension if probed else 0
    if settings.mask is not None and rows:
        _check_mask(settings, raw)
    if faults and settings.on_error == "stop":
        with ShowReader(settings) as reader:
            for row in rows:
                try:
                    reader.frames(row)
                except FaultyShowError as error:
                    faults.append(error.fault(row.show, row.path))
        raise GmmcoreError(report(_in_order(faults, listing.entries), settings.list))
    rows = part_of(rows, settings)
    faults = _in_order(faults, listing.entries)
    if not rows:
        raise GmmcoreError(report(faults, f"{settings.list}: no show is left", "fix these shows"))
    frames = [row.last - row.first for row in rows]
    shards = number_of_shards(sum(frames), len(rows), settings.shards)
    dealt = deal([f"{row.show}\t{row.first}" for row in rows], frames, shards)
    names = [shard_name(i, shards) for i in range(shards)]
    rows = [row._replace(shard=names[i]) for row, i in zip(rows, dealt, strict=True)]
    dimension = output_dimension(raw, settings)
    facts = {
        "shards": shards,
        "dimension": dimension,
        "raw_dimension": raw,
        "shows": len(rows),
        "frames": sum(frames),
        "vad": settings.vad,
        "faults": [fault.facts() for fault in faults],
        "fingerprint": identity,
        "recipe_digests": recipe_digests(names, rows, settings, dimension, LabelSource(settings)),
    }
    return CheckedList(ShowTable(facts, rows), faults)


def _labelled(
    settings: FeatureSettings, probed: list[Probed], faults: list[Fault]
) -> tuple[FeatureSettings, list[Probed]]:
    """Keep the shows that have labels; if none has, keep all, with settings that use all frames."""
    if not any(show.labelled for show in probed):
        return replace(settings, vad=None), probed
    faults += [
        show.row.fault(
            "no voice-activity labels in the file",
            "one per frame, as in other shows",
            "set features: vad to null (all frames), or to a vad.scp or a segments file",
        )
        for show in probed
        if not show.labelled
    ]
    return settings, [show for show in probed if show.labelled]


def _of_one_dimension(probed: list[Probed], faults: list[Fault]) -> list[Probed]:
    """Keep the shows whose frames have the dimension of most shows."""
    counts = Counter(show.dimension for show in probed)
    usual = max(counts, key=lambda dimension: (counts[dimension], -dimension), default=0)
    faults += [
        show.row.fault(
            f"{show.dimension} coefficients",
            f"{usual}, as in {counts[usual]} other shows",
            "extract it as the others, or remove it",
        )
        for show in probed
        if show.dimension != usual
    ]
    return [show for show in probed if show.dimension == usual]


def _without_duplicates(rows: list[Row], faults: list[Fault]) -> list[Row]:
    """Keep the rows whose frames are in no earlier row of the same show."""
    taken: dict[str, list[tuple[int, int]]] = {}
    result = []
    for row in rows:
        others = taken.setdefault(row.show, [])
        clash = next((o for o in others if row.first < o[1] and o[0] < row.last), None)
        if clash is None:
            others.append((row.first, row.last))
            result.append(row)
        else:
            found = f"frames {row.first} to {row.last} when {clash[0]} to {clash[1]} are listed"
            faults.append(row.fault(found, "each frame of a show once", "remove the duplicate"))
    return result


def _check_mask(settings: FeatureSettings, raw: int) -> None:
    assert settings.mask is not None
    width = output_dimension(raw, replace(settings, mask=None, context=None))
    if settings.mask[-1] >= width:
        raise GmmcoreError(
            f"features: mask: names coefficient {settings.mask[-1]}, but the frames have {width}, "
            f"numbered from 0; expected at most {width - 1}; correct it"
        )


def _in_order(faults: list[Fault], entries: list[Entry]) -> list[Fault]:
    """Sort faults in the order of the list; those of its unclear lines come first."""
    places = {(entry.show, entry.path): i for i, entry in enumerate(entries)}
    return sorted(faults, key=lambda fault: places.get((fault.show, fault.path), -1))


def probe(entries: Sequence[Entry], settings: FeatureSettings) -> list[Probed | Fault]:
    """Look up the size of each entry of a list, in the order of the entries.

    Files are opened in the order of their paths. HDF5 takes a third of a millisecond per file and
    runs in one thread only, so that long lists are shared among several processes: at most one
    for each CPU of the job. The result does not depend on their number.
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


def drawn(frames: Mapping[str, int], share: float, seed: int) -> set[str]:
    """Draw the shows, or speakers, to hold out, by their numbers of frames.

    A hash of seed and name gives all of them an order. The first ones are held out, until they have
    the share of all frames. So the order of the mapping does not matter, and a larger share holds
    out the same ones and others.

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
    """Return the rows to train on, or those to hold out, as the settings say."""
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


def number_of_shards(frames: int, shows: int, wanted: int | str) -> int:
    """Return the number of shards, at most one per show; ``auto`` goes by the number of frames."""
    if wanted == "auto":
        wanted = min(-(-frames // FRAMES_A_SHARD), _MOST_SHARDS)
    return max(1, min(int(wanted), shows))


def deal(names: Sequence[str], frames: Sequence[int], shards: int) -> npt.NDArray[np.int64]:
    """Choose the shard of each show, so that a changed show moves few others.

    A hash of its name gives every show an order of preference among the shards (rendezvous
    hashing). It goes to the first shard that has room, where a shard takes up to 2 % more than
    its share. Larger shows, by powers of two, choose first. Lengths are rounded to powers of the
    fourth root of two.

    The result depends only on names and lengths, not on the machine, and on the order of the list
    only for shows with the same name. A show whose length changes a little usually moves no
    show, and most shows stay in their shards when others are added or removed.
    """
    hashes = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names]
    keys = np.frombuffer(b"".join(hashes), "<u8")
    steps = np.rint(4 * np.log2(np.maximum(frames, 1))).astype(np.int64)
    lengths = np.rint(2.0 ** (steps / 4)).astype(np.int64)
    room = np.full(shards, int(np.ceil(_SLACK * lengths.sum() / shards)), dtype=np.int64)
    salts = splitmix(np.arange(shards, dtype=np.uint64) + np.uint64(1))
    result = np.empty(len(names), dtype=np.int64)
    for i in np.lexsort((keys, -(steps // 4))):
        scores = np.where(room >= lengths[i], splitmix(keys[i] ^ salts), 0)
        # If no shard has room, the emptiest takes the show.
        result[i] = scores.argmax() if scores.any() else room.argmax()
        room[result[i]] -= lengths[i]
    return result


class _States(dict[str, Any]):
    """Size and time of modification of files, each looked up once; None if there is none."""

    def __missing__(self, path: str) -> Any:
        try:
            status = os.stat(path)
            self[path] = [status.st_size, status.st_mtime_ns]
        except (OSError, ValueError):
            self[path] = None
        return self[path]

    def of_place(self, path: str, root: str) -> Any:
        """Look up the file in a path of a list."""
        try:
            return self[parse_place(path, root).file]
        except FaultyShowError:
            return None


def fingerprint(settings: FeatureSettings, listing: Listing | None = None) -> str:
    """Compute a digest of the list and of the size and time of modification of every file in it.

    The digest tells the workflow whether the list must be checked again. The content of the
    feature files is not read, and the list is not read if there is a `listing` already.
    """
    states, root = _States(), settings.folder
    if listing is None:
        listing = read_list(settings)
    labels = LabelSource(settings)
    speakers = settings.speakers if isinstance(settings, FeaturePart) else None
    return digest_of(
        FEATURES_VERSION,
        [[*entry, states.of_place(entry.path, root)] for entry in listing.entries],
        [fault.facts() for fault in listing.faults],
        [[path, states[path]] for path in labels.files()],
        [labels.identity(entry.show) for entry in listing.entries] if labels.own else None,
        settings.identity,
        *([sha256_of(speakers)] if speakers else []),
    )


def recipe_digests(
    names: list[str],
    rows: list[Row],
    settings: FeatureSettings,
    dimension: int,
    labels: LabelSource,
) -> dict[str, str]:
    """Compute a digest of all that decides the content of a shard, for each of these shards.

    These are its rows, the size and time of modification of their files, their labels, the
    settings that change numbers, and `FEATURES_VERSION`.
    """
    states, root = _States(), settings.folder
    parts: dict[str, list[Any]] = {name: [] for name in names}
    for row in rows:
        other = labels.file_of(row.show)
        parts[row.shard].append(
            [
                # The name of the shard does not change what it holds; the last column is one of
                # earlier versions.
                [*row._replace(shard=""), None],
                states.of_place(row.path, root),
                labels.identity(row.show),
                None if other is None else states[other],
            ]
        )
    return {
        name: digest_of(FEATURES_VERSION, settings.digest(), dimension, part)
        for name, part in parts.items()
    }


@remembered
def shard_paths(table: PathLike) -> dict[str, str]:
    """Return the files of all shards of ``shows.tsv``, beside the table, by their names."""
    folder = os.path.dirname(table)
    digests: dict[str, str] = ShowTable.read_facts(table)["recipe_digests"]
    return {
        name: os.path.join(folder, f"{name}-{digest[:12]}.npy") for name, digest in digests.items()
    }
