"""Mean and scatter of frames, added up stably."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Moments", "merge_moments"]


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations from it, of each coefficient.

    Attributes
    ----------
    count : int
    mean : ndarray, shape (D,), float64
    scatter : ndarray, shape (D,), float64
        The sum, over frames, of (x - mean)^2: divided by `count`, the variance.
    """

    count: int
    mean: npt.NDArray[np.float64]
    scatter: npt.NDArray[np.float64]

    @classmethod
    def of(cls, frames: npt.NDArray[np.floating]) -> Moments:
        """The moments of frames (N, D)."""
        if not len(frames):
            return cls.none(frames.shape[1])
        mean = frames.mean(axis=0, dtype=np.float64)
        centred = frames - mean
        return cls(len(frames), mean, np.einsum("ij,ij->j", centred, centred))

    @classmethod
    def none(cls, dimension: int) -> Moments:
        """The moments of no frames."""
        return cls(0, np.zeros(dimension), np.zeros(dimension))

    def __add__(self, other: Moments) -> Moments:
        """The moments of both sets of frames (Chan, Golub and LeVeque, 1983)."""
        count = self.count + other.count
        if not count:
            return self
        step = other.mean - self.mean
        share = other.count / count
        return Moments(
            count,
            self.mean + step * share,
            self.scatter + other.scatter + step * step * (self.count * share),
        )

    def facts(self) -> dict[str, Any]:
        """JSON values; floats keep all their digits."""
        return {
            "count": self.count,
            "mean": self.mean.tolist(),
            "scatter": self.scatter.tolist(),
        }

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Moments:
        """What `facts` gave."""
        return cls(
            int(facts["count"]),
            np.array(facts["mean"], dtype=np.float64),
            np.array(facts["scatter"], dtype=np.float64),
        )


def merge_moments(parts: Iterable[Moments]) -> Moments:
    """The moments of all frames together, added in the order given.

    Raises
    ------
    ValueError
        If there are none.
    """
    iterator = iter(parts)
    total = next(iterator, None)
    if total is None:
        raise ValueError("no moments to merge")
    for part in iterator:
        total = total + part
    return total
