"""Frames and mixtures on which E-steps are tried, of the CPU and of the GPU."""

from __future__ import annotations

import functools

import numpy as np

from gmmcore import GaussianMixture
from gmmcore.core.estep import accumulate
from gmmcore.core.initial import one_gaussian, split
from gmmcore.core.kinds import to_kind
from gmmcore.core.moments import Moments
from gmmcore.core.mstep import maximise
from gmmcore.core.settings import FullMStep, MStep

Case = tuple[np.ndarray, GaussianMixture]


def speech_like(frames: int, dimension: int) -> np.ndarray:
    """Slow and fast random walks between a few places: soft posteriors, correlated in time."""
    rng = np.random.default_rng(20)
    places = rng.standard_normal((40, dimension))
    path = np.repeat(rng.integers(0, 40, frames // 8 + 1), 8)[:frames]
    smooth = np.cumsum(rng.standard_normal((frames + 9, dimension)), axis=0)
    smooth = (smooth[9:] - smooth[:-9]) / 9
    return (places[path] + smooth + 0.4 * rng.standard_normal((frames, dimension))).astype("f")


@functools.cache
def trained(components: int, full: bool) -> Case:
    frames = speech_like(20_000, 12)
    mixture = one_gaussian(Moments.of(frames))
    settings = MStep()
    while mixture.components < components:
        mixture = split(mixture, min(components, 2 * mixture.components))
        for _ in range(2):
            statistics = accumulate(mixture, frames)
            mixture = maximise(mixture, statistics, settings).mixture
    if full:
        mixture = to_kind(mixture, "full")
        statistics = accumulate(mixture, frames)
        mixture = maximise(mixture, statistics, FullMStep()).mixture
    return frames, mixture


def narrow_and_wide(full: bool) -> Case:
    """Frames of which a tenth, like silence, has variances of a ten-thousandth; and outliers."""
    rng = np.random.default_rng(23)
    frames = rng.standard_normal((5000, 12)) * np.where(np.arange(5000) % 10, 1.0, 0.01)[:, None]
    frames[[7, 300, 301, 4999]] *= 30.0
    weights = np.array([0.1, 0.45, 0.45])
    means = np.array([0.0, -0.2, 0.2])[:, np.newaxis] * np.ones(12)
    covariances = np.array([1e-4, 1.0, 1.2])[:, np.newaxis] * np.ones(12)
    mixture = GaussianMixture.from_covariances(weights, means, covariances)
    return frames.astype("f"), to_kind(mixture, "full") if full else mixture


def crowded() -> Case:
    """A component that has half of the frames, and is narrow."""
    rng = np.random.default_rng(25)
    places = 3 * rng.standard_normal((128, 24))
    weights = np.full(128, 0.5 / 127)
    weights[0] = 0.5
    deviations = np.ones((128, 1))
    deviations[0] = 0.03
    chosen = rng.choice(128, 20_000, p=weights)
    frames = places[chosen] + deviations[chosen] * rng.standard_normal((20_000, 24))
    covariances = np.tile(deviations**2, 24)
    return frames.astype("f"), GaussianMixture.from_covariances(weights, places, covariances)


def overlapping(full: bool) -> Case:
    """All components count for each frame."""
    rng = np.random.default_rng(21)
    frames = rng.standard_normal((3000, 4)).astype("f")
    means = 0.1 * rng.standard_normal((128, 4))
    mixture = GaussianMixture.from_covariances(np.full(128, 1 / 128), means, np.ones((128, 4)))
    return frames, to_kind(mixture, "full") if full else mixture


def noisy_with_silence() -> np.ndarray:
    """Frames of which a fifth is silence: narrow, and far from the others."""
    rng = np.random.default_rng(26)
    frames = rng.standard_normal((10_000, 20)) + 2 * rng.standard_normal((8, 20)).repeat(1250, 0)
    frames[::5] = 0.05 * rng.standard_normal((2000, 20)) - 4
    return frames.astype("f")


def shifted(case: Case, shift: float) -> Case:
    """The same frames, so many deviations from zero."""
    frames, mixture = case
    moved = (frames + shift * frames.std(axis=0)).astype("f")
    # The frames that arrive are rounded; the mixture moves with them.
    move = moved.mean(axis=0, dtype=float) - frames.mean(axis=0, dtype=float)
    return moved, GaussianMixture(mixture.weights, mixture.means + move, mixture.precisions)


def in_unit(case: Case, unit: float) -> Case:
    """The same frames in another unit."""
    frames, mixture = case
    moved = GaussianMixture(mixture.weights, mixture.means * unit, mixture.precisions / unit**2)
    return frames * np.float32(unit), moved


def with_frame(case: Case, value: float) -> Case:
    """Some of the frames, and one that is far away."""
    frames, mixture = case
    return np.concatenate([frames[:500], np.full((1, 12), value, "f")]), mixture
