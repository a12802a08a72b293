"""Tokens, vectors and matrices, of which Kaldi's files consist, binary or text."""

from __future__ import annotations

import re
from typing import NoReturn

import numpy as np

from gmmcore.files import PathLike
from gmmcore.formats.base import Array, parse_numbers, refuse

__all__ = ["Items", "TextItems"]


_TEXT_ITEM = re.compile(rb"\s*(<[^<>\[\]\s]{1,40}>|\[[^<>\[\]]*\])")


class Items:
    """The tokens, vectors and matrices of a binary file, one after the other."""

    title = "Kaldi binary"
    _at = 2  # After the bytes that mark it.

    def __init__(self, path: PathLike, content: bytes) -> None:
        self.path = path
        self._content = content

    def refuse(self, reason: str) -> NoReturn:
        """Raise the error of a file that cannot be read."""
        refuse(self.path, self.title, reason)

    def token(self) -> bytes:
        """The next item, which must be a token."""
        end = self._content.find(b" ", self._at, self._at + 40)
        if end < 0:
            self.refuse(f"no token at byte {self._at}: truncated or damaged")
        found = self._content[self._at : end]
        self._at = end + 1
        return found

    def numbers(self, kind: bytes) -> Array:
        """The next item: a vector (``V``), the rows of a matrix (``M``) or of a triangle (``P``).

        A lower triangle is packed: its rows follow each other in a vector.
        """
        found = self.token()
        if found not in (b"F" + kind, b"D" + kind):
            what = {b"V": "a vector", b"M": "a matrix", b"P": "a packed matrix"}[kind]
            self.refuse(f"{what} was expected before byte {self._at}")
        dtype = np.dtype("<f4" if found[:1] == b"F" else "<f8")
        sizes = [self._int() for _ in range(2 if kind == b"M" else 1)]
        count = sizes[0] * (sizes[1] if kind == b"M" else 1)
        if kind == b"P":
            count = sizes[0] * (sizes[0] + 1) // 2
        left = len(self._content) - self._at
        if min(sizes) < 0 or count * dtype.itemsize > left:
            self.refuse(
                f"{sizes} numbers are claimed at byte {self._at}, {left} bytes are left: "
                "truncated, damaged or of another byte order",
            )
        with np.errstate(invalid="ignore"):  # signalling NaNs
            values = np.frombuffer(self._content, dtype, count, self._at).astype(np.float64)
        self._at += count * dtype.itemsize
        return values.reshape(sizes) if kind == b"M" else values

    def at_end(self) -> bool:
        """Whether nothing follows."""
        return self._at == len(self._content)

    def _int(self) -> int:
        field = self._content[self._at : self._at + 5]
        if len(field) < 5 or field[0] != 4:
            self.refuse(f"no size at byte {self._at}: truncated or damaged")
        self._at += 5
        return int.from_bytes(field[1:], "little", signed=True)


class TextItems(Items):
    """The same of a text file."""

    title = "Kaldi text"
    _at = 0

    def token(self) -> bytes:
        item = self._item()
        if not item.startswith(b"<"):
            self.refuse(f"a token was expected before byte {self._at}")
        return item

    def numbers(self, kind: bytes) -> Array:
        item = self._item()
        if not item.startswith(b"["):
            self.refuse(f"numbers were expected before byte {self._at}")
        if kind != b"M":
            return self._parse(item[1:-1])
        rows = [self._parse(line) for line in item[1:-1].split(b"\n") if line.strip()]
        if len({row.size for row in rows}) != 1:
            self.refuse(f"rows of unequal length before byte {self._at}")
        return np.array(rows)

    def at_end(self) -> bool:
        return not self._content[self._at :].strip()

    def _item(self) -> bytes:
        match = _TEXT_ITEM.match(self._content, self._at)
        if match is None:
            self.refuse(
                f"neither a token nor bracketed numbers at byte {self._at}: truncated or damaged",
            )
        self._at = match.end()
        return match[1]

    def _parse(self, text: bytes) -> Array:
        values = parse_numbers(text)
        if values is None:
            self.refuse(f"something that is no number before byte {self._at}")
        return values
