"""Posteriors of the components that matter, in groups that are computed or skipped together.

The log-likelihoods of a block have the shape (components, frames), so that the maximum over a
group, and every step with one number per frame, run over contiguous memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["GROUP", "Entries", "exponentials", "near", "near_posteriors"]

AnyArray = npt.NDArray[Any]
# Number of components in a group. After two splits, the four parts of a component lie C / 4 apart,
# and they form a group.
GROUP = 4


class Entries(NamedTuple):
    """Posteriors of a block that matter, as a sparse matrix with a compressed row per component."""

    values: AnyArray
    frames: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]


def exponentials(logs: AnyArray, lowest: AnyArray) -> AnyArray:
    """Raise `logs` below `lowest` to it, and replace them all by their exponentials, in place."""
    np.maximum(logs, lowest, out=logs)
    return np.exp(logs, out=logs)


def near(logs: AnyArray, threshold: AnyArray) -> tuple[AnyArray, npt.NDArray[np.bool_]]:
    """Find the largest log-likelihood of each frame, and the groups within `threshold` of it.

    Parameters
    ----------
    logs : ndarray, shape (C, frames)
        Log-likelihoods, where C is a multiple of `GROUP`.
    threshold : ndarray, shape ()
        Largest difference of logarithms, negative.

    Returns
    -------
    top : ndarray, shape (frames,)
        Largest log-likelihood of each frame.
    is_near : ndarray of bool, shape (C / GROUP, frames)
        Whether a component of the group is near. At least one group of a finite frame is; of a
        frame that is NaN, none.
    """
    best = logs.reshape(GROUP, -1).max(axis=0).reshape(-1, logs.shape[1])
    top = best.max(axis=0)
    # The sum of a large number and the threshold is rounded to `top` itself.
    return top, best >= top + threshold


def near_posteriors(
    logs: AnyArray,
    top: AnyArray,
    is_near: npt.NDArray[np.bool_],
    lowest: AnyArray,
    pruning: float,
) -> tuple[Entries, float]:
    """Compute the posteriors above `pruning` in the near groups, and the log-likelihood.

    The log-likelihood is summed over the frames and leaves out the other groups. It is not finite
    if a frame is not finite.
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
    """Compute ``indices % width`` faster than numpy does."""
    if width & (width - 1) == 0:
        return indices & (width - 1)
    return indices - indices // width * width
