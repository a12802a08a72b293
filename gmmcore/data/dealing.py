"""Dealing shows to shards of similar sizes, so that a changed show moves few others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["FRAMES_A_SHARD", "deal", "number_of_shards"]

FRAMES_A_SHARD = 250_000
"""Size of a shard with ``shards: auto``: 60 MB of 60 coefficients, some seconds per iteration."""

_MOST_SHARDS = 1000
_SLACK = 1.02


def number_of_shards(frames: int, shows: int, wanted: int | str) -> int:
    """Return the number of shards, at most one per show; ``auto`` goes by the number of frames."""
    if wanted == "auto":
        wanted = min(-(-frames // FRAMES_A_SHARD), _MOST_SHARDS)
    return max(1, min(int(wanted), shows))


def deal(names: Sequence[str], frames: Sequence[int], shards: int) -> npt.NDArray[np.int64]:
    """Choose the shard of each show.

    A hash of its name gives every show an order of preference among the shards (rendezvous
    hashing). It goes to the first shard that has room, where a shard takes up to 2 % more than
    its share. Larger shows, by powers of two, choose first. Lengths are rounded to powers of the
    fourth root of two.

    The result depends only on names and lengths, not on the machine, and on the order of the list
    only for shows with the same name. A show whose length changes a little usually moves no
    show, and most shows stay in their shards when others are added or removed.

    Parameters
    ----------
    names : sequence of str
    frames : sequence of int
    shards : int

    Returns
    -------
    ndarray, shape (len(names),), int64
        The shard of each show.
    """
    hashes = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names]
    keys = np.frombuffer(b"".join(hashes), "<u8")
    steps = np.rint(4 * np.log2(np.maximum(frames, 1))).astype(np.int64)
    lengths = np.rint(2.0 ** (steps / 4)).astype(np.int64)
    room = np.full(shards, int(np.ceil(_SLACK * lengths.sum() / shards)), dtype=np.int64)
    salts = _mixed(np.arange(shards, dtype=np.uint64) + np.uint64(1))
    result = np.empty(len(names), dtype=np.int64)
    for i in np.lexsort((keys, -(steps // 4))):
        scores = np.where(room >= lengths[i], _mixed(keys[i] ^ salts), 0)
        # If no shard has room, the emptiest takes the show.
        result[i] = scores.argmax() if scores.any() else room.argmax()
        room[result[i]] -= lengths[i]
    return result


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scatter the bits of each value with a bijection, the finaliser of splitmix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))
