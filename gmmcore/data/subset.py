"""Random subsets of all frames, shared out among the shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["share_out"]


def share_out(counts: Sequence[int], size: int, seed: int) -> list[int]:
    """Draw `size` of all frames uniformly without replacement, and count those of each show.

    Parameters
    ----------
    counts : sequence of int
        Number of frames of each show.
    size : int
        Number of frames to draw; all frames are taken if there are not more.
    seed : int
        Seed of the random generator.

    Returns
    -------
    list of int
        Number of frames drawn from each show.

    Notes
    -----
    Distinct numbers are drawn among all frames, so that the counts follow the multivariate
    hypergeometric distribution; numpy's generator of it is limited to 10^9 frames.
    """
    ends = np.cumsum(np.asarray(counts, dtype=np.int64))
    total = int(ends[-1]) if len(ends) else 0
    if size >= total:
        return list(counts)
    generator = np.random.default_rng(seed)
    # If most frames are kept, those to leave out are drawn.
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
