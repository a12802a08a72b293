"""The checked feature list, ``shows.tsv``."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from gmmcore.errors import DamagedFileError, GmmcoreError, counted
from gmmcore.files import PathLike, read_bytes, remembered, replace_text

__all__ = ["Row", "ShowTable", "check_apart", "shard_name"]

_FIRST = "# gmmcore shows: "
_COLUMNS = ("show", "path", "first", "last", "frames", "shard")


class Row(NamedTuple):
    """A show, or a segment of a show, that is used.

    The frames first <= i < last are used, of the `frames` that the show had when it was checked.
    """

    show: str
    path: str
    first: int
    last: int
    frames: int
    shard: str


def shard_name(index: int, shards: int) -> str:
    """Return the name of a shard: its number with leading zeros, so that names sort as numbers."""
    return f"{index:0{max(3, len(str(shards - 1)))}d}"


@dataclass(frozen=True)
class ShowTable:
    """The content of ``shows.tsv``.

    Attributes
    ----------
    facts : dict
        ``shards`` (their number), ``dimension`` (of processed frames), ``raw_dimension`` (of
        frames in the files), ``shows``, ``frames`` (before selection), ``vad``, ``faults`` (of
        shows that were skipped), ``fingerprint``, and ``recipe_digests``, by shard.
    rows : list of Row
        Rows in the order of the list.
    """

    facts: dict[str, Any]
    rows: list[Row]

    @property
    def shards(self) -> list[str]:
        """Names of all shards."""
        count = int(self.facts["shards"])
        return [shard_name(i, count) for i in range(count)]

    def of_shard(self, shard: str) -> list[Row]:
        """Return the rows of one shard, in the order of the list."""
        return [row for row in self.rows if row.shard == shard]

    def write(self, path: PathLike) -> None:
        """Write the table: a comment with the facts, a header line, and one line per row."""
        lines = ["\t".join(_COLUMNS)]
        for row in self.rows:
            lines.append("\t".join(map(str, row)))
        body = "\n".join(lines) + "\n"
        digest = _digest(self.facts, body)
        facts = json.dumps({**self.facts, "digest": digest}, sort_keys=True)
        replace_text(path, f"{_FIRST}{facts}\n{body}")

    @classmethod
    def read(cls, path: PathLike) -> ShowTable:
        """Read a table that `write` wrote.

        Raises
        ------
        DamagedFileError
            If the file is truncated or altered.
        """
        facts, body = _verified(path)
        rows = []
        try:
            for line in body.split("\n")[1:-1]:
                # Tables of earlier versions have one more column.
                show, place, begin, end, frames, shard = line.split("\t")[: len(_COLUMNS)]
                rows.append(Row(show, place, int(begin), int(end), int(frames), shard))
        except ValueError:
            raise _damaged(path) from None
        return cls(facts, rows)

    @staticmethod
    @remembered
    def read_facts(path: PathLike) -> dict[str, Any]:
        """Do what `read` does, without the rows; a table that did not change is read only once."""
        return _verified(path)[0]

    def check_shard(self, path: PathLike, shard: str) -> None:
        """Raise `GmmcoreError` if there is no shard with this name."""
        if shard not in self.shards:
            raise GmmcoreError(
                f"{path}: no shard {shard!r}; expected {self.shards[0]} to {self.shards[-1]}; "
                "correct --shard"
            )


def check_apart(training: PathLike, held_out: PathLike) -> None:
    """Raise `GmmcoreError` if two tables have a show in common."""
    first, second = (
        {row.show for row in ShowTable.read(path).rows} for path in (training, held_out)
    )
    if both := first & second:
        raise GmmcoreError(
            f"{held_out}: {counted(len(both), 'show')} to hold out, such as {min(both)}, "
            f"also in the list to train on ({training}); expected others; correct one of the lists"
        )


def _verified(path: PathLike) -> tuple[dict[str, Any], str]:
    """Return the facts of a table, and the lines after them, once their digest is verified."""
    try:
        first, body = read_bytes(path).decode().split("\n", 1)
        if not first.startswith(_FIRST):
            raise ValueError
        facts = json.loads(first.removeprefix(_FIRST))
        if facts.pop("digest") != _digest(facts, body):
            raise ValueError
    except (ValueError, KeyError, AttributeError, TypeError):
        raise _damaged(path) from None
    return facts, body


def _damaged(path: PathLike) -> DamagedFileError:
    return DamagedFileError(
        f"{path}: damaged, or not a list that `gmmcore shows` wrote; remove it and "
        "give the same command again"
    )


def _digest(facts: dict[str, Any], body: str) -> str:
    first = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(f"{first}\n{body}".encode()).hexdigest()
