"""Frames that stay in the memory of a device."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any

__all__ = ["KeptFrames"]


class KeptFrames:
    """Frames in the memory of a device, for the next iterations.

    Parameters
    ----------
    room : int or None
        Largest number of bytes; None for any number.
    """

    def __init__(self, room: int | None) -> None:
        self._room = room
        self._used = 0
        self._of: OrderedDict[int, tuple[Hashable, dict[int, Any]]] = OrderedDict()

    def of(self, source: object, layout: Hashable) -> Mapping[int, Any]:
        """Return the blocks of a source by their first frames; blocks of another layout are gone.

        The source becomes the one that was used last. Training and held-out frames take turns. So
        those of the source before stay, and those of all others, such as a smaller subset of an
        earlier iteration, are dropped.
        """
        key = id(source)
        if key in self._of and self._of[key][0] != layout:
            self._forget(key)
        if key not in self._of:
            while len(self._of) > 1:
                self._forget(next(iter(self._of)))
            try:
                # Another object may have the number once this one is gone.
                weakref.finalize(source, self._forget, key)
            except TypeError:
                return {}  # An object of which nobody knows when it is gone.
            self._of[key] = layout, {}
        self._of.move_to_end(key)
        return self._of[key][1]

    def keep(self, source: object, start: int, block: Any) -> None:
        """Keep a block of a source, whose blocks were asked for, if there is room."""
        has_room = self._room is None or self._used + block.nbytes <= self._room
        if has_room and id(source) in self._of:
            self._of[id(source)][1][start] = block
            self._used += block.nbytes

    def drop(self) -> bool:
        """Keep nothing from now on; return whether anything was kept."""
        found = self._used > 0
        self._room = 0
        for key in list(self._of):
            self._forget(key)
        return found

    def _forget(self, key: int) -> None:
        _, blocks = self._of.pop(key, (None, {}))
        self._used -= sum(block.nbytes for block in blocks.values())
