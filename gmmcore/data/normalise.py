"""Normalisation of the frames of a show, with the statistics of the show or of a sliding window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gmmcore.data.readers import Frames, Labels

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ShowStatistics:
    """Mean and standard deviation (D,) of the speech of a show; the divisor is the frame count."""

    mean: Array
    deviation: Array

    @classmethod
    def of(cls, frames: Frames) -> ShowStatistics:
        """Compute the statistics of frames (N, D)."""
        mean = frames.mean(axis=0, dtype=np.float64)
        centred = frames - mean
        return cls(mean, np.sqrt(np.einsum("ij,ij->j", centred, centred) / len(frames)))


def normalise(
    frames: Frames,
    labels: Labels,
    method: str,
    window: int = 301,
    whole: ShowStatistics | None = None,
) -> None:
    """Normalise `frames` (N, D) in place, with the statistics of the speech or of the `whole` show.

    >>> frames = np.array([[1, 2], [3, 6]], np.float32)
    >>> normalise(frames, np.array([True, True]), "cmvn")
    >>> frames
    array([[-1., -1.],
           [ 1.,  1.]], dtype=float32)
    """
    if not labels.any():
        return
    speech, scale = frames if labels.all() else frames[labels], method.startswith("cmvn")
    # ``stg`` and the sliding methods change only speech, as in SIDEKIT.
    if method == "stg":
        frames[labels] = _warped(speech, window)
    elif method.endswith("_sliding") and len(speech) > window:
        frames[labels] = _sliding(speech, window, scale)
    elif method.endswith("_global"):
        if whole is None:
            raise ValueError("a global normalisation needs the statistics of the whole show")
        _standardise(frames, whole, scale)
    else:
        _standardise(frames, ShowStatistics.of(speech), scale)


def _standardise(frames: Frames, statistics: ShowStatistics, scale: bool) -> None:
    """Subtract the mean, and divide by the standard deviation with `scale`."""
    frames -= statistics.mean.astype(np.float32)
    if scale:
        frames *= _reciprocal(statistics.deviation, statistics.mean).astype(np.float32)


def _reciprocal(deviation: Array, mean: Array) -> Array:
    # Rounding errors may make the standard deviation of equal values positive.
    dead = ~(deviation > np.maximum(1e-12 * np.abs(mean), 1e-30))
    return np.where(dead, 0.0, 1.0 / np.where(dead, 1.0, deviation))


def _sliding(frames: Frames, window: int, scale: bool) -> Frames:
    """Centre the frames, and with `scale` divide by the deviation, of the window around each."""
    count = len(frames) - window + 1
    mean = np.empty((count, frames.shape[1]))
    deviation = np.empty_like(mean)
    # Sums over windows are differences of running sums, which keep their digits about the mean of a
    # few windows.
    stretch = 8 * window
    for start in range(0, count, stretch):
        part = frames[start : min(start + stretch, count) + window - 1]
        centre = part.mean(axis=0, dtype=np.float64)
        centred = part - centre
        total = _window_sums(centred, window)
        local = total / window
        mean[start : start + stretch] = centre + local
        if scale:
            squares = _window_sums(centred * centred, window) - total * local
            deviation[start : start + stretch] = np.sqrt(np.maximum(squares, 0.0) / (window - 1))
    # Frames near an edge use the first or the last window.
    nearest = np.clip(np.arange(len(frames)) - window // 2, 0, count - 1)
    result = frames - mean[nearest]
    if scale:
        result *= _reciprocal(deviation, mean)[nearest]
    return result.astype(np.float32)


def _window_sums(values: Array, window: int) -> Array:
    running = np.empty((len(values) + 1, values.shape[1]))
    running[0] = 0.0
    np.cumsum(values, axis=0, out=running[1:])
    return running[window:] - running[:-window]


def _warped(frames: Frames, window: int) -> Frames:
    """Replace values with the normal quantiles of their ranks (feature warping, Pelecanos 2001)."""
    from scipy.special import ndtri

    count = len(frames)
    if count < window:
        # SIDEKIT repeats the last frame of a short show of even length, for a middle frame.
        if count % 2 == 0:
            frames = np.concatenate([frames, frames[-1:]])
        window = len(frames)
    half = window // 2
    ranks = np.empty(frames.shape, dtype=np.int32)
    ranks[:half] = _ranks(frames[:window])[:half]
    ranks[len(frames) - half :] = _ranks(frames[len(frames) - window :])[half + 1 :]
    ranks[half : len(frames) - half] = _ranks_of_centres(frames, half)
    quantiles = ndtri((np.arange(window) + 0.5) / window).astype(np.float32)
    return quantiles[ranks[:count]]


def _ranks(frames: Frames) -> npt.NDArray[np.int64]:
    return np.argsort(np.argsort(frames, axis=0, kind="stable"), axis=0, kind="stable")


def _ranks_of_centres(frames: Frames, half: int) -> npt.NDArray[np.int32]:
    """Count the values of each coefficient below the centre of the window around each frame."""
    count = len(frames) - 2 * half
    result = np.empty((count, frames.shape[1]), dtype=np.int32)
    block = max(1, 16384 // frames.shape[1])  # A block and its ranks stay in the cache.
    for start in range(0, count, block):
        stop = min(start + block, count)
        centre = frames[start + half : stop + half]
        below = np.zeros(centre.shape, dtype=np.int32)
        for offset in range(2 * half + 1):
            below += frames[start + offset : stop + offset] < centre
        result[start:stop] = below
    return result
