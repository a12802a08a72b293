"""Writing a shard, show by show, with only one show in memory."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from gmmcore.config.features import FeatureSettings
from gmmcore.core.nesting import frame_levels
from gmmcore.data.identity import recipe_digests
from gmmcore.data.readers.faults import Fault, FaultyShowError, report
from gmmcore.data.shards import Shard, ShardWriter, read_facts
from gmmcore.data.shows import ShowReader
from gmmcore.data.table import ShowTable
from gmmcore.errors import GmmcoreError
from gmmcore.files import PathLike, writing

__all__ = ["pack_shard"]


def pack_shard(
    settings: FeatureSettings, table: PathLike, shard: str, output: PathLike
) -> tuple[dict[str, Any], bool]:
    """Process the shows of one shard and write its file, unless it is there and intact.

    Shows with faults that appear only now (values that are not finite, no frame selected) are
    left out and recorded: they are the `faults` of the `gmmcore.data.shards.Shard`.

    Parameters
    ----------
    settings : FeatureSettings
    table : path
        Path of ``shows.tsv``.
    shard : str
        Name of a shard in the table.
    output : path
        File to write.

    Returns
    -------
    facts : dict
        The facts of the shard.
    written : bool
        Whether the file was not there already.

    Raises
    ------
    GmmcoreError
        If feature files changed since the list was checked, or while they were read.
    """
    content = ShowTable.read(table)
    content.check_shard(table, shard)
    settings = replace(settings, vad=content.facts["vad"])
    rows = content.of_shard(shard)
    dimension = int(content.facts["dimension"])
    digest = content.facts["recipe_digests"][shard]
    if (known := _intact(output, digest)) is not None:
        return known, False
    faults: list[Fault] = []
    changed: list[Fault] = []
    with (
        writing(output) as stream,
        ShowReader(settings) as reader,
        ShardWriter(stream, dimension, Path(output).parent) as writer,
    ):
        for row in rows:
            try:
                frames = reader.frames(row)
                if frames.shape[1] != dimension:
                    raise FaultyShowError(
                        f"{frames.shape[1]} coefficients after processing",
                        f"{dimension}, as when the list was checked",
                        "give the same command again",
                        changed=True,
                    )
                key = f"{row.show} {row.first}"
                writer.add(frames, frame_levels(settings.seed, key, len(frames)))
            except FaultyShowError as error:
                (changed if error.changed else faults).append(error.fault(row.show, row.path))
        if changed:
            raise GmmcoreError(report(changed, f"{table}: changed since the list was checked"))
        found = recipe_digests([shard], rows, settings, dimension, reader.label_source)
        if found[shard] != digest:
            raise GmmcoreError(
                f"{output}: feature files of shard {shard} changed since {table} was made, or "
                "while they were read; give the same command again, once they stay as they are"
            )
        writer.finish(
            {
                "shard": shard,
                "recipe_digest": digest,
                "shows": len(rows) - len(faults),
                "faults": [fault.facts() for fault in faults],
            }
        )
    return read_facts(output), True


def _intact(path: PathLike, digest: str) -> dict[str, Any] | None:
    """Read the shard in a file with all its frames; None unless it is that of the digest."""
    with contextlib.suppress(GmmcoreError), Shard(path) as shard:
        if shard.recipe_digest == digest:
            for _ in shard.blocks():
                pass  # Reading verifies them.
            return shard.facts
    return None
