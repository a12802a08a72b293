"""In which pieces frames are read, and in which order the sums of the pieces are added.

The order is a binary tree over the pieces, so that any number of workers may compute and add parts
of it: who computes what, and which part is ready first, does not change a bit of the total.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = ["Node", "SumTree", "pieces", "shares"]

Array = npt.NDArray[np.float64]
Node = tuple[int, int]
# Largest number of frames in a piece, and share of the remaining frames that a piece has.
_LARGEST_PIECE = 16384
_SHARE = 32


def pieces(frames: int, block: int) -> list[tuple[int, int]]:
    """Divide frames into pieces of whole blocks, which become shorter towards the end.

    A worker that ends early takes the next piece, and the last ones are short, so that all workers
    end at about the same time. The pieces do not depend on the number of workers, because they
    decide the order of addition.

    Parameters
    ----------
    frames : int
        Number of frames.
    block : int
        Number of frames that are processed together; the last piece may end within a block.

    Returns
    -------
    list of (int, int)
        First frame of each piece, and the one after its last.

    Examples
    --------
    >>> from gmmcore.core.summation import pieces
    >>> pieces(100, 32)
    [(0, 32), (32, 64), (64, 96), (96, 100)]
    """
    found, start = [], 0
    while start < frames:
        wanted = min((frames - start) // _SHARE, _LARGEST_PIECE) // block * block
        stop = min(start + max(wanted, block), frames)
        found.append((start, stop))
        start = stop
    return found


def shares(lengths: list[int], workers: int) -> list[tuple[int, int]]:
    """Divide consecutive pieces among workers, as equally as possible by the frames they have.

    Returns
    -------
    list of (int, int)
        First piece of each worker, and the one after its last.

    Examples
    --------
    >>> from gmmcore.core.summation import shares
    >>> shares([4, 4, 2, 2], 2)
    [(0, 1), (1, 4)]
    """
    ends = np.cumsum([0, *lengths])
    wanted = np.arange(workers + 1) * (ends[-1] / workers)
    # Each bound is the end of a piece nearest to the wanted number of frames.
    cuts = np.searchsorted(ends[:-1] + 0.5 * np.diff(ends), wanted[1:-1], side="left")
    return list(pairwise([0, *map(int, cuts), len(lengths)]))


class SumTree:
    """Sums of the nodes of a binary tree whose leaves are the pieces.

    Node i of level k has the pieces from i 2^k to below (i + 1) 2^k, as far as there are that many.

    Parameters
    ----------
    count : int
        Number of pieces.

    Attributes
    ----------
    count : int
    nodes : dict
        Sums of the largest nodes that are complete, by level and index.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmcore.core.summation import SumTree
    >>> tree = SumTree(3)
    >>> for piece in (2, 0, 1):
    ...     tree.add((0, piece), np.array([1.0]))
    >>> tree.total
    array([3.])
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._sizes = [count]  # number of nodes of each level
        while self._sizes[-1] > 1:
            self._sizes.append((self._sizes[-1] + 1) // 2)
        self.nodes: dict[Node, Array] = {}

    @property
    def root(self) -> Node:
        """The node with all pieces."""
        return len(self._sizes) - 1, 0

    @property
    def total(self) -> Array | None:
        """The sums of all pieces; None unless all were added."""
        return self.nodes.get(self.root)

    def add(self, node: Node, sums: Array, *, keep: bool = False) -> None:
        """Add the sums of a node, which is complete, and complete the nodes above it.

        Parameters
        ----------
        node : (int, int)
            Level and index.
        sums : ndarray, float64
            They may be altered, unless `keep` asks that they be copied.
        keep : bool
            Whether the caller goes on using `sums`.

        Raises
        ------
        ValueError
            If there is no such node, or a piece of it was added before.
        """
        level, index = node
        if not (0 <= level < len(self._sizes) and 0 <= index < self._sizes[level]):
            raise ValueError(f"node {index} of level {level} is not one of {self._sizes[0]} pieces")
        while level + 1 < len(self._sizes):
            if (level, index) in self.nodes:
                raise ValueError(f"node {index} of level {level} was added twice")
            sibling = index ^ 1
            if sibling < self._sizes[level]:
                other = self.nodes.pop((level, sibling), None)
                if other is None:
                    break
                other += sums  # Both orders of two summands give the same bits.
                sums, keep = other, False
            level, index = level + 1, index // 2
        if (level, index) in self.nodes:
            raise ValueError(f"node {index} of level {level} was added twice")
        self.nodes[level, index] = sums.copy() if keep else sums

    def largest(self, first: int, last: int) -> list[Node]:
        """List the largest nodes that have only pieces from `first` to below `last`, in order.

        Examples
        --------
        >>> from gmmcore.core.summation import SumTree
        >>> SumTree(8).largest(1, 8)
        [(0, 1), (1, 1), (2, 1)]
        """
        found = []
        while first < last:
            level = 0
            while level + 1 < len(self._sizes):
                wider = 2 << level
                # A node at the right edge may have fewer pieces than others of its level.
                if first % wider or min(first + wider, self._sizes[0]) > last:
                    break
                level += 1
            found.append((level, first >> level))
            first += 1 << level
        return found
