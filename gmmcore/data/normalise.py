"""Normalisation of the frames of one show, by its statistics or those of a sliding window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.float32]
Labels = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ShowStatistics:
    """Mean and standard deviation of the speech frames of a whole show.

    Attributes
    ----------
    mean : ndarray, shape (D,), float64
        Mean of the frames.
    deviation : ndarray, shape (D,), float64
        Standard deviation of the frames, with the divisor N.
    """

    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]

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
    """Normalise `frames` in place.

    Parameters
    ----------
    frames : ndarray, shape (N, D), float32
    labels : ndarray, shape (N,), bool
        Speech frames, from which the statistics are computed; without any, nothing is changed.
        ``stg`` and the sliding methods change only these frames, as in SIDEKIT; the other methods
        change all frames.
    method : str
        One of `gmmcore.config.features.NORMALISATIONS`:

        * ``cms`` subtracts the mean; ``cmvn`` also divides by the standard deviation, with the
          divisor N;
        * ``cms_sliding`` and ``cmvn_sliding`` take the statistics from a window around the frame,
          where the divisor is n - 1, as in SIDEKIT;
        * ``cms_global`` and ``cmvn_global`` take the statistics from `whole`;
        * ``stg`` replaces each value by the normal quantile of its rank in the window (feature
          warping, Pelecanos and Sridharan, 2001).
    window : int
        Length of the window, an odd number of frames. Frames near an edge use the first or last
        complete window. If there are not more speech frames than this, the sliding methods do
        the same as ``cms`` and ``cmvn``.
    whole : ShowStatistics, optional
        Statistics of the whole show, for the global methods.

    Notes
    -----
    A coefficient that does not vary becomes zero.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmcore.data.normalise import normalise
    >>> frames = np.array([[1, 2], [3, 6]], np.float32)
    >>> normalise(frames, np.array([True, True]), "cmvn")
    >>> frames
    array([[-1., -1.],
           [ 1.,  1.]], dtype=float32)
    """
    everything = bool(labels.all())
    if not labels.any():
        return
    speech = frames if everything else frames[labels]
    if method.endswith("_sliding") and len(speech) <= window:
        method = method.removesuffix("_sliding")
    if method in ("cms", "cmvn", "cms_global", "cmvn_global"):
        statistics = whole if method.endswith("_global") else ShowStatistics.of(speech)
        if statistics is None:
            raise ValueError(f"{method} needs the statistics of the whole show")
        frames -= statistics.mean.astype(np.float32)
        if method.startswith("cmvn"):
            frames *= _reciprocal(statistics.deviation, statistics.mean).astype(np.float32)
        return
    if method == "stg":
        speech = _warped(speech, window)
    else:
        speech = _sliding(speech, window, scale=method == "cmvn_sliding")
    frames[labels] = speech


def _reciprocal(
    deviation: npt.NDArray[np.float64], mean: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    # The standard deviation of equal values may be a rounding error instead of zero.
    dead = ~(deviation > np.maximum(1e-12 * np.abs(mean), 1e-30))
    return np.where(dead, 0.0, 1.0 / np.where(dead, 1.0, deviation))


def _sliding(frames: Frames, window: int, scale: bool) -> Frames:
    """Centre the frames, and scale them, by the statistics of the window around each frame."""
    count = len(frames) - window + 1
    mean = np.empty((count, frames.shape[1]))
    deviation = np.empty_like(mean)
    # Sums over windows are differences of running sums, which lose digits as they grow. They are
    # taken about the mean of a few windows, so that they stay small.
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


def _window_sums(values: npt.NDArray[np.float64], window: int) -> npt.NDArray[np.float64]:
    running = np.empty((len(values) + 1, values.shape[1]))
    running[0] = 0.0
    np.cumsum(values, axis=0, out=running[1:])
    return running[window:] - running[:-window]


def _warped(frames: Frames, window: int) -> Frames:
    from scipy.special import ndtri

    count = len(frames)
    if count < window:
        # SIDEKIT repeats the last frame of a short show of even length, to have a middle.
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
    """Count the frames of the window around each frame that lie below it, for each coefficient."""
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
