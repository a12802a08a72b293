"""Processing of the frames of a show, with the steps of SIDEKIT's FeaturesServer in its order."""

from __future__ import annotations

from typing import Any

import numpy as np

from gmmcore.config.keys import FeatureSettings
from gmmcore.data.normalise import ShowStatistics, normalise
from gmmcore.data.readers import Frames, Labels


def process(
    frames: Frames, labels: Labels, settings: FeatureSettings, whole: ShowStatistics | None = None
) -> tuple[Frames, Labels]:
    """Process the frames (N, D) of a show; return new ones (M, D'), C-contiguous, and their labels.

    >>> frames = np.array([[1], [2], [9]], np.float32)
    >>> settings = FeatureSettings(list="shows.txt", normalisation="cms")
    >>> process(frames, np.array([True, True, False]), settings)[0]
    array([[-0.5],
           [ 0.5]], dtype=float32)
    """
    given, reach = frames, settings.context
    frames = static_part(frames, settings)
    labels = speech_labels(labels, settings)
    # Without context, only the selected frames need the normalisation.
    early = settings.select_speech and reach is None
    if early:
        frames, labels = frames[labels], labels[labels]
    if settings.normalisation is not None and len(frames):
        if frames is given:
            frames = frames.copy()
        normalise(frames, labels, settings.normalisation, settings.window, whole)
    if reach is not None:
        frames = add_context(frames, *reach)
        if settings.select_speech:
            frames, labels = frames[labels], labels[labels]
    return np.ascontiguousarray(frames, dtype=np.float32), labels


def static_part(frames: Frames, settings: FeatureSettings) -> Frames:
    """Apply the steps before the normalisation: RASTA, deltas or shifted deltas, mask."""
    if settings.rasta:
        frames = rasta(frames)
    if settings.delta:
        taps = settings.delta_taps
        parts = [frames, delta(frames, taps, settings.delta_edges)]
        if settings.double_delta:
            parts.append(delta(parts[1], taps, settings.delta_edges))
        frames = np.concatenate(parts, axis=1)
    elif settings.sdc is not None:
        frames = add_shifted_deltas(frames, *settings.sdc)
    if settings.mask is not None:
        frames = frames[:, list(settings.mask)]
    return frames


def speech_labels(labels: Labels, settings: FeatureSettings) -> Labels:
    """Return the labels for the normalisation and the selection."""
    if settings.rasta and len(labels) > 2:
        # The first frames are zero; frames 0 and 1 get the label of frame 2, as in SIDEKIT.
        labels = labels.copy()
        labels[:2] = labels[2]
    if settings.label_fusion and len(labels):
        labels = smooth_labels(labels)
    return labels


def output_dimension(dimension: int, settings: FeatureSettings) -> int:
    """Return the dimension of processed frames, given the `dimension` in the files."""
    if settings.delta:
        dimension *= 3 if settings.double_delta else 2
    elif settings.sdc is not None:
        dimension *= 1 + settings.sdc[2]
    if settings.mask is not None:
        dimension = len(settings.mask)
    if settings.context is not None:
        dimension *= 1 + sum(settings.context)
    return dimension


def delta(frames: Frames, taps: tuple[float, ...], edges: str = "repeat") -> Frames:
    """Compute the derivative of each coefficient in time, shape (N, D).

    >>> delta(np.array([[0], [1], [3], [6]], np.float32), (0.5, 0.0, -0.5)).ravel()
    array([0.5, 1.5, 2.5, 1.5], dtype=float32)
    """
    # The taps weigh the frames from n later to n earlier. SIDEKIT takes zeros beyond the edges.
    reach = len(taps) // 2
    count = len(frames)
    padded = _padded(frames, reach, reach, edges)
    result = np.zeros_like(frames)
    scratch = np.empty_like(frames)
    for offset in range(1, reach + 1):
        later, earlier = taps[reach - offset], taps[reach + offset]
        ahead = padded[reach + offset : reach + offset + count]
        behind = padded[reach - offset : reach - offset + count]
        if later == -earlier:
            if later != 0.0:
                np.subtract(ahead, behind, out=scratch)
                scratch *= np.float32(later)
                result += scratch
        else:
            for part, weight in ((ahead, later), (behind, earlier)):
                np.multiply(part, np.float32(weight), out=scratch)
                result += scratch
    if taps[reach] != 0.0:
        result += frames * np.float32(taps[reach])
    return result


def add_shifted_deltas(frames: Frames, d: int, p: int, k: int) -> Frames:
    """Append k blocks of shifted delta cepstra to the frames, with SIDEKIT's sign."""
    # SIDEKIT repeats the last frame 3 k + d times, too few for p > 3.
    count = len(frames)
    padded = _padded(frames, d, k * p + d, "repeat")
    blocks = [
        padded[i * p : i * p + count] - padded[i * p + 2 * d : i * p + 2 * d + count]
        for i in range(k)
    ]
    return np.concatenate([frames, *blocks], axis=1)


def rasta(frames: Frames) -> Frames:
    """Apply the RASTA filter (Hermansky and Morgan, 1994) with a pole at 0.94, as SIDEKIT does."""
    from scipy.signal import lfilter

    # The first four frames fill the memory of the filter and become zero.
    numerator = np.array([0.2, 0.1, 0.0, -0.1, -0.2])
    result = np.zeros_like(frames)
    if len(frames) > 4:
        _, state = lfilter(numerator, [1.0], frames[:4], axis=0, zi=np.zeros((4, frames.shape[1])))
        result[4:] = lfilter(numerator, [1.0, -0.94], frames[4:], axis=0, zi=state)[0]
    return result


def smooth_labels(labels: Labels, window: int = 3) -> Labels:
    """Close gaps shorter than `window` frames, then remove shorter islands of speech."""
    from scipy import ndimage

    # SIDEKIT filters one label at a time, which changes none.
    closed = ndimage.grey_closing(labels.astype(np.uint8), size=window)
    return ndimage.grey_opening(closed, size=window).astype(bool)


def add_context(frames: Frames, left: int, right: int) -> Frames:
    """Join each frame with `left` frames before and `right` after it; edges are repeated."""
    count = len(frames)
    padded = _padded(frames, left, right, "repeat")
    return np.concatenate([padded[i : i + count] for i in range(left + 1 + right)], axis=1)


def _padded(frames: Frames, before: int, after: int, edges: str) -> Frames:
    mode: Any = "edge" if edges == "repeat" else "constant"
    return np.pad(frames.astype(np.float32, copy=False), ((before, after), (0, 0)), mode)
