"""Digests that tell whether feature files changed, from their sizes and times of modification."""

from __future__ import annotations

import os
from typing import Any

from gmmcore.config.features import FEATURES_VERSION, FeaturePart, FeatureSettings
from gmmcore.data.labels import LabelSource
from gmmcore.data.lists import Listing, read_list
from gmmcore.data.readers import parse_place
from gmmcore.data.readers.faults import FaultyShowError
from gmmcore.data.table import Row, ShowTable
from gmmcore.files import PathLike, digest_of, remembered, sha256_of

__all__ = ["fingerprint", "recipe_digests", "shard_paths"]


class _Files:
    """Size and time of modification of files, each looked up once."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._places: dict[str, str] = {}
        self._known: dict[str, Any] = {}

    def place(self, path: str) -> Any:
        """Look up the file in a path of a list."""
        try:
            return self.file(parse_place(path, self._root).file)
        except FaultyShowError:
            return None

    def file(self, path: str) -> Any:
        if path not in self._known:
            try:
                status = os.stat(path)
                self._known[path] = [status.st_size, status.st_mtime_ns]
            except (OSError, ValueError):
                self._known[path] = None
        return self._known[path]


def fingerprint(settings: FeatureSettings, listing: Listing | None = None) -> str:
    """Compute a digest of the list and of the size and time of modification of every file in it.

    The digest tells the workflow whether the list must be checked again. The content of the
    feature files is not read.

    Parameters
    ----------
    settings : FeatureSettings
    listing : Listing, optional
        The list, if it has been read already.

    Raises
    ------
    GmmcoreError
        If the list cannot be read.
    """
    files = _Files(settings.folder)
    if listing is None:
        listing = read_list(settings)
    labels = LabelSource(settings)
    speakers = settings.speakers if isinstance(settings, FeaturePart) else None
    return digest_of(
        FEATURES_VERSION,
        [[*entry, files.place(entry.path)] for entry in listing.entries],
        [fault.facts() for fault in listing.faults],
        [[path, files.file(path)] for path in labels.files()],
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
    files = _Files(settings.folder)
    parts: dict[str, list[Any]] = {name: [] for name in names}
    for row in rows:
        other = labels.file_of(row.show)
        parts[row.shard].append(
            [
                # The name of the shard does not change what it holds.
                # The last column is one of earlier versions.
                [*row._replace(shard=""), None],
                files.place(row.path),
                labels.identity(row.show),
                None if other is None else files.file(other),
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
