"""Check of the feature list, in one pass that finds the faults of all shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from gmmcore.config.features import FeatureSettings
from gmmcore.data.dealing import deal, number_of_shards
from gmmcore.data.identity import fingerprint, recipe_digests
from gmmcore.data.lists import Entry, Listing, read_list
from gmmcore.data.parts import part_of
from gmmcore.data.probing import Probed, probe
from gmmcore.data.processing import output_dimension
from gmmcore.data.readers.faults import Fault, FaultyShowError, report
from gmmcore.data.shows import ShowReader
from gmmcore.data.table import Row, ShowTable, shard_name
from gmmcore.errors import GmmcoreError

__all__ = ["CheckedList", "check_list"]


@dataclass(frozen=True)
class CheckedList:
    """Table of the shows to use, dealt to shards, and the faults of those that are left out."""

    table: ShowTable
    faults: list[Fault]


def check_list(settings: FeatureSettings, listing: Listing | None = None) -> CheckedList:
    """Check the feature list, or a `listing` in its place, and deal its shows to shards.

    Every file is opened to look up the sizes of its shows, but frames are read only if a fault
    is found and ``on_error`` is ``stop``: then all other shows are read, so that the report has
    their faults too.

    Raises
    ------
    GmmcoreError
        If there are faults and ``on_error`` is ``stop``, or if no show is left; the message has
        one line for each fault.
    """
    listing = listing or read_list(settings)
    identity = fingerprint(settings, listing)
    faults = list(listing.faults)
    found = probe(listing.entries, settings)
    faults += [item for item in found if isinstance(item, Fault)]
    probed = [item for item in found if isinstance(item, Probed)]
    settings, probed = _labelled(settings, probed, faults)
    with ShowReader(settings) as reader:
        probed = _of_one_dimension(probed, faults)
        rows = _without_duplicates([show.row for show in probed], faults)
        raw = probed[0].dimension if probed else 0
        if settings.mask is not None and rows:
            _check_mask(settings, raw)
        if faults and settings.on_error == "stop":
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
        "recipe_digests": recipe_digests(names, rows, settings, dimension, reader.label_source),
    }
    return CheckedList(ShowTable(facts, rows), faults)


def _labelled(
    settings: FeatureSettings, probed: list[Probed], faults: list[Fault]
) -> tuple[FeatureSettings, list[Probed]]:
    """Keep the shows that have labels; if none has, keep all, with settings that use all frames."""
    if not any(show.labelled for show in probed):
        return replace(settings, vad=None), probed
    faults += [
        Fault(
            show.row.show,
            show.row.path,
            "no voice-activity labels in the file",
            "one per frame, as in other shows",
            "set features: vad to null (all frames), or to a vad.scp or a segments file",
        )
        for show in probed
        if not show.labelled
    ]
    return settings, [show for show in probed if show.labelled]


def _of_one_dimension(probed: list[Probed], faults: list[Fault]) -> list[Probed]:
    counts = Counter(show.dimension for show in probed)
    if len(counts) < 2:
        return probed
    usual = max(counts, key=lambda dimension: (counts[dimension], -dimension))
    for show in probed:
        if show.dimension != usual:
            faults.append(
                Fault(
                    show.row.show,
                    show.row.path,
                    f"{show.dimension} coefficients",
                    f"{usual}, as in {counts[usual]} other shows",
                    "extract it as the others, or remove it",
                )
            )
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
            faults.append(
                Fault(
                    row.show,
                    row.path,
                    f"frames {row.first} to {row.last} when {clash[0]} to {clash[1]} are listed",
                    "each frame of a show once",
                    "remove the duplicate",
                )
            )
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
