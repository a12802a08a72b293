"""Nested random subsets of the frames: each frame has a level, drawn from its show and position."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from gmmcore.core.schedule import LARGEST_LEVEL

__all__ = ["frame_levels"]

# The subset of level k has the frames whose hash is below 2^(64 - k).
_LIMITS = np.array([1 << (64 - k) for k in range(LARGEST_LEVEL, 0, -1)], dtype=np.uint64)


def frame_levels(seed: int, show: str, frames: int) -> npt.NDArray[np.intp]:
    """Draw the level of each frame of a show; a frame is in the subsets up to its level.

    Parameters
    ----------
    seed : int
    show : str
        Name of the show.
    frames : int
        Number of frames of the show.

    Returns
    -------
    ndarray, shape (frames,)
        Level k with probability 2^-(k + 1), at most `LARGEST_LEVEL`. The levels do not depend on
        other shows, on shards or on the number of jobs.

    Notes
    -----
    The position in the show, from a start that depends on seed and show, is hashed by SplitMix64
    (Steele, Lea and Flood, OOPSLA 2014).

    Examples
    --------
    >>> from gmmcore.core.nesting import frame_levels
    >>> frame_levels(1, "show", 1000)[:8]
    array([0, 0, 1, 0, 0, 0, 0, 0])
    """
    start = hashlib.sha256(f"{seed} {show}".encode()).digest()[:8]
    # Sums and products of unsigned integers wrap around without a warning, as intended.
    value = np.arange(1, frames + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    value = splitmix(value + np.frombuffer(start, dtype="<u8"))
    return LARGEST_LEVEL - np.searchsorted(_LIMITS, value, side="right")


def splitmix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scatter the bits of each value with a bijection, the finaliser of SplitMix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))
