"""The sums of the E-step with only those components that matter to a frame.

Components are computed or passed over in groups. The log-likelihoods of a block have the shape
(components, frames), so that the maximum over a group, and every step with one number per frame,
run over contiguous memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gmmcore.core.frames import FrameSource, Weights
from gmmcore.core.kinds import AnyArray, Array
from gmmcore.core.mixture import GaussianMixture, pack
from gmmcore.core.sums import Sums, weighted

# Components of a group. After two splits, the four parts of a component lie C / 4 apart, and they
# form a group.
GROUP = 4
# With fewer components, to pass some over costs more than it saves.
LEAST_COMPONENTS = 128
# Largest share of groups near the best one with which it pays to pass over the others, by whether
# covariances are full.
_LARGEST_SHARE = {False: 0.15, True: 0.35}
# Frames drawn from a mixture to see how many groups are near.
_DRAWN = 512
# Largest number of products that are added one by one in single precision.
_LONGEST_RUN = 64
# Blocks of full covariances whose posteriors wait for `flush`.
_WAITING = 16


class _Entries(NamedTuple):
    """Posteriors of a block as a sparse matrix, with a compressed row per component."""

    values: AnyArray
    frames: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]


class PrunedSums(Sums):
    """Sums that leave out posteriors below `pruning`, those of a frame at most 50 times as much."""

    order = "F"

    def __init__(self, mixture: GaussianMixture, precision: str, pruning: float) -> None:
        # A component has few frames of a block, so that long blocks are faster.
        super().__init__(mixture, precision, padding=GROUP, block=1024 if mixture.is_full else 2048)
        self.pruning = pruning
        self._threshold = np.array(np.log(50.0 * pruning / self.shape[1]), self.dtype)
        self._share = _LARGEST_SHARE[self.kind.is_full]

    def pays(self, mixture: GaussianMixture) -> bool:
        """Whether few components are near frames that are drawn from the mixture."""
        frames, _ = mixture.sample(_DRAWN, seed=0)
        return bool(self._near(self.products_of(frames))[2].mean() <= self._share)

    def over(self, source: FrameSource) -> Array:
        """Sum over the frames of a source; see `Sums.over`."""
        self._waiting().clear()  # What an error while frames were read has left.
        return super().over(source)

    def add_block(self, frames: AnyArray, total: Array, weights: Weights | None = None) -> float:
        """Add the sums of a block; one with many near components is computed with all."""
        products = self.products_of(frames)
        logs, top, is_near = self._near(products)
        # The limit is doubled here, because the matrix product is repeated with all components.
        if np.count_nonzero(is_near) > 2 * self._share * is_near.size:
            return super().add_block(frames, total, weights)
        entries, log_likelihood = self._posteriors(logs, top, is_near, weights)
        if not self.kind.is_full:
            _add_rows(entries, products, total)
            return log_likelihood
        waiting = self._waiting()
        y = products[-1 - self.dimension :].T.copy()
        waiting.append((y, entries))
        if len(waiting) == _WAITING:
            self.flush(total)
        return log_likelihood

    def _near(self, products: AnyArray) -> tuple[AnyArray, AnyArray, npt.NDArray[np.bool_]]:
        """Return log-likelihoods (C, F), the largest (F,), and near groups (C / GROUP, F)."""
        frames = products.shape[1]
        logs = self.buffer("logs", self.shape[1], frames)
        np.matmul(self.coefficients.T, products, out=logs)
        best = logs.reshape(GROUP, -1).max(axis=0).reshape(-1, frames)
        top = best.max(axis=0)
        # One group at least is near a frame, none if it is NaN: of a large number, the sum with
        # the threshold is rounded to the number itself.
        return logs, top, best >= top + self._threshold

    def _posteriors(
        self, logs: AnyArray, top: AnyArray, is_near: npt.NDArray[np.bool_], weights: Weights | None
    ) -> tuple[_Entries, float]:
        """Compute the posteriors above `pruning` in the near groups, and the log-likelihood."""
        groups, frames = is_near.shape
        chosen = np.flatnonzero(is_near)
        frame = _remainder(chosen, frames)
        values = logs.reshape(GROUP, -1).take(chosen, axis=1)
        values -= top[frame]
        self.exponentials(values)
        total = np.bincount(frame, np.ones(GROUP, self.dtype) @ values, frames)
        values *= (1.0 / total).astype(self.dtype)[frame]
        kept = np.flatnonzero(values.ravel() > self.pruning)
        column = _remainder(kept, len(chosen))
        bounds = np.searchsorted(chosen, np.arange(groups) * frames)
        bounds = (np.arange(GROUP)[:, np.newaxis] * len(chosen) + bounds).ravel()
        starts = np.append(np.searchsorted(kept, bounds), len(kept))
        entries = _Entries(values.ravel()[kept], frame.astype(np.int32)[column], starts)
        if weights is not None:
            np.multiply(entries.values, weights.astype(self.dtype)[entries.frames], entries.values)
        return entries, weighted(top, weights) + weighted(np.log(total), weights)

    def _waiting(self) -> list[tuple[AnyArray, _Entries]]:
        return vars(self._own).setdefault("waiting", [])

    def flush(self, total: Array) -> None:
        """Add the sums of posterior x [y, 1] [y, 1]' of the waiting blocks, by component."""
        # A component has few frames in a block, but in many enough for a matrix product.
        waiting = self._waiting()
        if not waiting:
            return
        y = np.concatenate([of_block for of_block, _ in waiting])
        offsets = np.cumsum([0] + [len(of_block) for of_block, _ in waiting])
        frames = np.concatenate(
            [entries.frames + at for at, (_, entries) in zip(offsets[:-1], waiting, strict=True)]
        )
        values = np.concatenate([entries.values for _, entries in waiting])
        names = np.arange(self.shape[1], dtype=np.min_scalar_type(self.shape[1]))
        component = np.concatenate([np.repeat(names, np.diff(e.starts)) for _, e in waiting])
        waiting.clear()
        order = np.argsort(component, kind="stable")
        starts = np.searchsorted(component[order], np.arange(self.shape[1] + 1))
        values, frames = values[order], frames[order]
        dimension = self.dimension
        moments = np.zeros((self.shape[1], dimension + 1, dimension + 1), self.dtype)
        for index in np.flatnonzero(np.diff(starts)):
            chosen = slice(starts[index], starts[index + 1])
            near = y[frames[chosen]]
            np.matmul((near * values[chosen, np.newaxis]).T, near, out=moments[index])
        total[: -1 - dimension] += pack(moments[:, :dimension, :dimension]).T
        total[-1 - dimension :] += moments[:, dimension].T


def _add_rows(entries: _Entries, products: AnyArray, total: Array) -> None:
    """Add the product of a sparse matrix of posteriors with the products (width, F)."""
    from scipy.sparse import csr_array

    # A component with many frames gets several rows, whose sums are added in float64.
    rows = np.maximum(-(-np.diff(entries.starts) // _LONGEST_RUN), 1)
    first = np.cumsum(rows) - rows
    within = np.arange(rows.sum()) - np.repeat(first, rows)
    starts = np.repeat(entries.starts[:-1], rows) + _LONGEST_RUN * within
    starts = np.append(starts, entries.starts[-1])
    shape = (len(starts) - 1, products.shape[1])
    sums = csr_array((entries.values, entries.frames, starts), shape) @ products.T
    total += sums[first].T if len(sums) > len(first) else sums.T
    for index in np.flatnonzero(rows > 1):
        others = sums[first[index] + 1 : first[index] + rows[index]]
        total[:, index] += others.sum(axis=0, dtype=np.float64)


def _remainder(indices: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.int64]:
    """Compute ``indices % width``; where width is a power of two, faster than numpy does."""
    return indices & (width - 1) if width & (width - 1) == 0 else indices % width
