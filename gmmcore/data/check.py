"""Checking a feature list: the size and faults of each show, its shard, and digests."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gmmcore.config.keys import FEATURES_VERSION, FeaturePart, FeatureSettings
from gmmcore.core.schedule import splitmix
from gmmcore.data.lists import Entry, LabelSource, Listing, read_list, read_speakers
from gmmcore.data.process import output_dimension
from gmmcore.data.readers import Fault, FaultyShowError, parse_place, reading, report
from gmmcore.data.shows import Row, ShowReader, ShowTable
from gmmcore.errors import GmmcoreError, counted
from gmmcore.files import PathLike, digest_of, remembered, sha256_of

FRAMES_A_SHARD = 250_000
"""Frames per shard with ``shards: auto``: 60 MB of 60 coefficients, a few seconds per iteration."""
_LISTS_VERSION = 2  # Raised where a list means other frames than before: it is checked again.
_MOST_SHARDS = 1000
_SLACK = 1.02  # A shard takes up to 2 % more than its share of the frames.
_MANY_FILES = 4000
_MOST_PROCESSES = 8
_LARGEST = 16 << 30  # Bytes of the frames of one row, the same limit on every machine.
_SAMPLED = 200  # Shows whose sizes an estimate looks up.


@dataclass(frozen=True)
class CheckedList:
    """The table of the usable shows, each in a shard, and the faults of the other shows."""

    table: ShowTable
    faults: list[Fault]


class Probed(NamedTuple):
    """A usable row, the dimension of its frames, and whether its show has the required labels."""

    row: Row
    dimension: int
    labelled: bool


def check_list(settings: FeatureSettings, listing: Listing | None = None) -> CheckedList:
    """Check the shows of a feature list, or of a `listing`, and deal the shows to shards."""
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
        width = output_dimension(raw, replace(settings, mask=None, context=None))
        if settings.mask[-1] >= width:
            raise GmmcoreError(
                f"features: mask: names coefficient {settings.mask[-1]}, but the frames have "
                f"{width}, numbered from 0; expected at most {width - 1}; correct it"
            )
    if faults and settings.on_error == "stop":
        # The error names the faults in the frames of other shows, too.
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
    shards = settings.shards
    if shards == "auto":
        shards = min(-(-sum(frames) // FRAMES_A_SHARD), _MOST_SHARDS)
    shards = max(1, min(int(shards), len(rows)))
    dealt = deal([f"{row.show}\t{row.first}" for row in rows], frames, shards)
    width = max(3, len(str(shards - 1)))
    names = [f"{i:0{width}d}" for i in range(shards)]
    rows = [row._replace(shard=names[i]) for row, i in zip(rows, dealt, strict=True)]
    dimension = output_dimension(raw, settings)
    facts = {
        "shards": shards,
        "dimension": dimension,
        "raw_dimension": raw,
        "shows": len(rows),
        "frames": sum(frames),
        "vad": settings.vad,
        "faults": [asdict(fault) for fault in faults],
        "fingerprint": identity,
        "recipe_digests": recipe_digests(names, rows, settings, dimension, LabelSource(settings)),
    }
    return CheckedList(ShowTable(facts, rows), faults)


def estimate(settings: FeatureSettings) -> tuple[int, int]:
    """Estimate the frames of a list, speech or not, and their dimension, by some of its shows."""
    entries = read_list(settings).entries
    chosen = entries[:: max(1, len(entries) // _SAMPLED)]
    found = [show for show in probe(chosen, settings) if isinstance(show, Probed)]
    if not found:
        raise GmmcoreError(f"{settings.list}: no show is left; expected shows that can be read")
    frames = sum(show.row.last - show.row.first for show in found)
    return frames * len(entries) // len(chosen), output_dimension(found[0].dimension, settings)


def _labelled(
    settings: FeatureSettings, probed: list[Probed], faults: list[Fault]
) -> tuple[FeatureSettings, list[Probed]]:
    """Keep the shows with labels; if no show has labels, keep all shows and all their frames."""
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
    """Keep the shows whose frames have the most common dimension."""
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
    """Keep the rows that overlap no earlier row of the same show."""
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


def _in_order(faults: list[Fault], entries: list[Entry]) -> list[Fault]:
    """Sort faults in the order of the list; the faults of unclear lines come first."""
    places = {(entry.show, entry.path): i for i, entry in enumerate(entries)}
    return sorted(faults, key=lambda fault: places.get((fault.show, fault.path), -1))


def probe(entries: Sequence[Entry], settings: FeatureSettings) -> list[Probed | Fault]:
    """Look up the size of each entry, in the order of the entries."""
    # HDF5 takes a third of a millisecond per file and runs in one thread only.
    order = sorted(range(len(entries)), key=lambda i: entries[i].path)
    given = [entries[i] for i in order]
    processes = min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)
    many = len({entry.path for entry in entries}) > _MANY_FILES and settings.format != "kaldi"
    if many and processes > 1:
        edges = [len(given) * i // processes for i in range(processes + 1)]
        shares = [given[i:j] for i, j in itertools.pairwise(edges)]
        try:
            with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
                results = [*itertools.chain(*pool.map(partial(_probe_all, settings), shares))]
        except BrokenProcessPool:
            raise GmmcoreError(
                f"{settings.list}: a process that looked up the shows was killed; expected memory "
                "for it, and feature files that do not crash the HDF5 library; give the job more "
                "memory, or check the latest files"
            ) from None
    else:
        results = _probe_all(settings, given)
    found = dict(zip(order, results, strict=True))
    return [found[i] for i in range(len(entries))]


def _probe_all(settings: FeatureSettings, entries: Sequence[Entry]) -> list[Probed | Fault]:
    results: list[Probed | Fault] = []
    with ShowReader(settings) as reader:
        for entry in entries:
            try:
                results.append(_probe(entry, reader))
            except FaultyShowError as error:
                results.append(error.fault(entry.show, entry.path))
    return results


@reading()
def _probe(entry: Entry, reader: ShowReader) -> Probed:
    source, place = reader.opened(entry.path)
    description = source.describe(entry.show, place)
    count = description.frames
    if count < 1 or description.dimension < 1:
        found = f"{count} frames of {description.dimension} coefficients"
        remedy = "remove the show, or extract it again"
        raise FaultyShowError(found, "at least one of each", remedy)
    first = entry.first or 0
    last = count if entry.last is None else entry.last
    if not first < last <= count:
        wanted = f"one within its frames 0 to {count}"
        raise FaultyShowError(f"the segment {first} to {last}", wanted, "correct the list")
    if 4 * (last - first) * description.dimension > _LARGEST:
        found = f"{last - first} frames of {description.dimension} coefficients"
        wanted = f"at most {_LARGEST >> 30} GiB of them in float32"
        raise FaultyShowError(found, wanted, "list it in segments, or extract it again")
    labelled = reader.label_source.check(entry.show, description)
    row = Row(entry.show, entry.path, first, last, count, "")
    return Probed(row, description.dimension, labelled)


def drawn(frames: Mapping[str, int], share: float, seed: int) -> set[str]:
    """Draw the names to hold out by a hash; a larger `share` holds out the same names and more.

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
    """Return the rows to train on or the rows to hold out, by the settings."""
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


def deal(names: Sequence[str], frames: Sequence[int], shards: int) -> npt.NDArray[np.int64]:
    """Choose the shard of each show (N,) by its name and number of frames alone."""
    # A hash of the name orders the shards (rendezvous hashing), and the show takes the first one
    # with room. Larger shows choose first. Lengths are rounded to powers of the fourth root of two,
    # so that most shows stay in their shards when one is added, removed or changed a little.
    hashes = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names]
    keys = np.frombuffer(b"".join(hashes), "<u8")
    steps = np.rint(4 * np.log2(np.maximum(frames, 1))).astype(np.int64)
    lengths = np.rint(2.0 ** (steps / 4)).astype(np.int64)
    room = np.full(shards, int(np.ceil(_SLACK * lengths.sum() / shards)), dtype=np.int64)
    salts = splitmix(np.arange(shards, dtype=np.uint64) + np.uint64(1))
    result = np.empty(len(names), dtype=np.int64)
    for i in np.lexsort((keys, -(steps // 4))):
        scores = np.where(room >= lengths[i], splitmix(keys[i] ^ salts), 0)
        # Without room in any shard, the emptiest shard takes the show.
        result[i] = scores.argmax() if scores.any() else room.argmax()
        room[result[i]] -= lengths[i]
    return result


class _States(dict[str, Any]):
    """Size and time of modification of files, each looked up once; None without a file."""

    def __missing__(self, path: str) -> Any:
        try:
            status = os.stat(path)
            self[path] = [status.st_size, status.st_mtime_ns]
        except (OSError, ValueError):
            self[path] = None
        return self[path]

    def of_place(self, path: str, root: str) -> Any:
        """Look up the file of a path in a list; None without a valid path."""
        try:
            return self[parse_place(path, root).file]
        except FaultyShowError:
            return None


def fingerprint(settings: FeatureSettings, listing: Listing | None = None) -> str:
    """Compute a digest of the list, and of the size and time of every file in it, unread."""
    states, root = _States(), settings.folder
    listing = listing or read_list(settings)
    labels = LabelSource(settings)
    speakers = settings.speakers if isinstance(settings, FeaturePart) else None
    if speakers:
        read_speakers(speakers)  # A wrong file is told at the start, with its key.
    return digest_of(
        FEATURES_VERSION,
        _LISTS_VERSION,
        [[*entry, states.of_place(entry.path, root)] for entry in listing.entries],
        [asdict(fault) for fault in listing.faults],
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
    """Compute the digest of everything that decides the content of each shard."""
    states, root = _States(), settings.folder
    parts: dict[str, list[Any]] = {name: [] for name in names}
    for row in rows:
        other = labels.file_of(row.show)
        parts[row.shard].append(
            [
                # The name of a shard does not change its content. None keeps the digests of
                # earlier versions, which had one more column.
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
    """Return the file of each shard of ``shows.tsv`` by the name of the shard."""
    digests: dict[str, str] = ShowTable.read_facts(table)["recipe_digests"]
    start = os.path.join(os.path.dirname(table), "")
    return {name: f"{start}{name}-{digest[:12]}.npy" for name, digest in digests.items()}
