"""A random subset of all frames: how many each show gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["share_out"]


def share_out(counts: Sequence[int], size: int, seed: int) -> list[int]:
    """How many of `size` frames, drawn uniformly without replacement, fall on each show.

    Parameters
    ----------
    counts : sequence of int
        Frames of each show.
    size : int
        If it is not less than all frames together, all are taken.
    seed : int

    Returns
    -------
    list of int

    Notes
    -----
    Distinct numbers are drawn among all frames, so their shares are exactly multivariate
    hypergeometric; numpy's own generator of it ends at 10^9 frames.
    """
    ends = np.cumsum(np.asarray(counts, dtype=np.int64))
    total = int(ends[-1]) if len(ends) else 0
    if size >= total:
        return list(counts)
    generator = np.random.default_rng(seed)
    # Drawing those to leave out is quicker when most are kept.
    few = min(size, total - size)
    drawn = np.empty(0, dtype=np.int64)
    while len(drawn) < few:
        more = generator.integers(total, size=few - len(drawn) + 16)
        drawn = np.unique(np.concatenate([drawn, more]))
    if len(drawn) > few:
        drawn = generator.permutation(drawn)[:few]
    shares = np.bincount(np.searchsorted(ends, drawn, side="right"), minlength=len(ends))
    if few < size:
        shares = np.asarray(counts) - shares
    return [int(n) for n in shares]
