"""Count, mean and scatter of frames, which can be added without loss of digits."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Moments:
    """Count of frames, and mean and scatter of each coefficient.

    >>> Moments.of(np.array([[1.0, 2.0], [3.0, 6.0]])) + Moments.of(np.array([[5.0, 4.0]]))
    Moments(count=3, mean=array([3., 4.]), scatter=array([8., 8.]))
    """

    count: float  # Number of frames, or the sum of their weights.
    mean: npt.NDArray[np.float64]
    scatter: npt.NDArray[np.float64]  # Sums of (x - mean)^2, (D,): the variance times the count.

    @classmethod
    def of(
        cls, frames: npt.NDArray[np.floating], weights: npt.NDArray[np.float64] | None = None
    ) -> Moments:
        """Compute the moments of frames (N, D), each of which counts as often as its weight says.

        >>> Moments.of(np.array([[1.0], [4.0]]), np.array([2.0, 1.0]))
        Moments(count=3.0, mean=array([2.]), scatter=array([6.]))
        """
        if not len(frames):
            return cls.none(frames.shape[1])
        if weights is not None:
            mean = np.average(frames, axis=0, weights=weights)
            return cls(float(weights.sum()), mean, weights @ (frames - mean) ** 2)
        mean = frames.mean(axis=0, dtype=np.float64)
        centred = frames - mean
        return cls(len(frames), mean, np.einsum("ij,ij->j", centred, centred))

    @classmethod
    def none(cls, dimension: int) -> Moments:
        """Return the moments of an empty set of frames."""
        return cls(0, np.zeros(dimension), np.zeros(dimension))

    def __add__(self, other: Moments) -> Moments:
        """Add the moments of other frames (Chan, Golub and LeVeque, 1983)."""
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
        """Return the moments as JSON values; floats keep all their digits."""
        return {"count": self.count, "mean": self.mean.tolist(), "scatter": self.scatter.tolist()}

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Moments:
        """Make moments of the JSON values that `facts` returned."""
        return cls(int(facts["count"]), np.array(facts["mean"]), np.array(facts["scatter"]))


def merge_moments(parts: Iterable[Moments]) -> Moments:
    """Add the moments of one part or more, in the order given."""
    moments = [*parts]
    if not moments:
        raise ValueError("no moments to merge")
    return reduce(operator.add, moments)
