"""The posteriors that count: groups of components that are computed, or skipped, together.

Here a block's log-likelihoods lie as (components, frames): the maximum over the components of a
group and every step with one number a frame are then long runs over contiguous memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["GROUP", "Entries", "exponentials", "near", "near_posteriors"]

AnyArray = npt.NDArray[Any]
# Components of a group. A mixture that was split holds its relatives C / 4 apart, and so they
# are grouped.
GROUP = 4


class Entries(NamedTuple):
    """The posteriors of a block that count, by component (compressed rows)."""

    values: AnyArray
    frames: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]


def exponentials(logs: AnyArray, lowest: AnyArray) -> AnyArray:
    """Raise `logs` to `lowest` where they are below, and in place to their exponentials."""
    np.maximum(logs, lowest, out=logs)
    return np.exp(logs, out=logs)


def near(logs: AnyArray, threshold: AnyArray) -> tuple[AnyArray, npt.NDArray[np.bool_]]:
    """The best log-likelihood of each frame, and the groups that have one within `threshold` of it.

    Parameters
    ----------
    logs : ndarray, shape (C, frames)
        C a multiple of `GROUP`.
    threshold : ndarray, shape ()
        Negative.

    Returns
    -------
    top : ndarray, shape (frames,)
    is_near : ndarray of bool, shape (C / GROUP, frames)
        A frame that is not finite is near nothing.
    """
    best = logs.reshape(GROUP, -1).max(axis=0).reshape(-1, logs.shape[1])
    top = best.max(axis=0)
    return top, best > top + threshold


def near_posteriors(
    logs: AnyArray,
    top: AnyArray,
    is_near: npt.NDArray[np.bool_],
    lowest: AnyArray,
    pruning: float,
) -> tuple[Entries, float]:
    """The posteriors above `pruning` of the groups that are near, and the log-likelihood.

    The log-likelihood is summed over the frames; it leaves out the other groups. A frame that is
    not finite has the logarithm of zero.
    """
    groups, frames = is_near.shape
    chosen = np.flatnonzero(is_near)
    frame = _remainder(chosen, frames)
    values = logs.reshape(GROUP, -1).take(chosen, axis=1)
    values -= top[frame]
    exponentials(values, lowest)
    total = np.bincount(frame, np.ones(GROUP, values.dtype) @ values, frames)
    values *= (1.0 / total).astype(values.dtype)[frame]
    kept = np.flatnonzero(values.ravel() > pruning)
    column = _remainder(kept, len(chosen))
    bounds = np.searchsorted(chosen, np.arange(groups) * frames)
    bounds = (np.arange(GROUP)[:, np.newaxis] * len(chosen) + bounds).ravel()
    starts = np.append(np.searchsorted(kept, bounds), len(kept))
    entries = Entries(values.ravel()[kept], frame.astype(np.int32)[column], starts)
    return entries, float(top.sum(dtype=np.float64) + np.log(total).sum())


def _remainder(indices: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.int64]:
    """``indices % width``, which numpy has no fast loop for."""
    if width & (width - 1) == 0:
        return indices & (width - 1)
    return indices - indices // width * width
