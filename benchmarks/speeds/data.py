"""Frames and mixtures to measure on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.config.steps import MStep
from gmmcore.core.estep import accumulate
from gmmcore.core.frames import ArraySource
from gmmcore.core.initial import one_gaussian, split, to_full
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.mstep import maximise
from gmmcore.core.train import moments

__all__ = ["Repeated", "clusters", "mixtures", "speech"]

Frames = npt.NDArray[np.float32]


def clusters(frames: int, dimension: int, seed: int = 0) -> Frames:
    """Draws from 512 well separated Gaussians in random order: sharp posteriors."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((512, dimension))
    deviations = np.exp(0.3 * rng.standard_normal((512, dimension)))
    of = rng.integers(0, 512, frames)
    return (centres[of] + deviations[of] * rng.standard_normal((frames, dimension))).astype("f")


def speech(folder: Path, frames: int) -> Frames | None:
    """Real speech: 20 coefficients with deltas and double deltas, a show at a time normalised.

    The shows are repeated, with a twentieth of a deviation of noise, until there are enough
    frames; None where the folder with SIDEKIT's files is absent.
    """
    paths = sorted(folder.glob("*.h5"))
    if not paths:
        return None
    import h5py

    shows = []
    for path in paths:
        with h5py.File(path) as file:
            for name in file:
                if name == "compression":
                    continue
                energy = file[name]["energy"][()].reshape(-1, 1)
                static = np.hstack([energy, file[name]["cep"][()]]).astype(np.float64)
                first = _delta(static)
                show = np.hstack([static, first, _delta(first)])
                shows.append((show - show.mean(axis=0)) / show.std(axis=0))
    rng = np.random.default_rng(0)
    whole = np.concatenate(shows)
    repeated = np.concatenate([whole] * (frames // len(whole) + 1))[:frames]
    return (repeated + 0.05 * rng.standard_normal(repeated.shape)).astype(np.float32)


def _delta(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    padded = np.pad(values, ((2, 2), (0, 0)), mode="edge")
    count = len(values)
    near = padded[3 : 3 + count] - padded[1 : 1 + count]
    far = padded[4 : 4 + count] - padded[:count]
    return (near + 2 * far) / 10


def mixtures(frames: Frames, sizes: list[int], full: bool) -> dict[int, GaussianMixture]:
    """Mixtures that were trained on the frames by splitting, a few iterations each."""
    mixture = one_gaussian(moments(ArraySource(frames)))
    settings = MStep()
    found = {}
    while mixture.components < max(sizes):
        mixture = split(mixture)
        for _ in range(3):
            mixture = _improved(mixture, frames, settings)
        if mixture.components in sizes:
            found[mixture.components] = mixture
    if full:
        found = {size: _improved(to_full(one), frames, settings) for size, one in found.items()}
    return found


def _improved(mixture: GaussianMixture, frames: Frames, settings: MStep) -> GaussianMixture:
    statistics = accumulate(mixture, frames, precision="single", pruning=1e-4, threads=2)
    return maximise(mixture, statistics, settings).mixture


class Repeated:
    """A source of many frames that takes no memory: an array over and over."""

    def __init__(self, values: Frames, frames: int) -> None:
        self._values = values
        self.frames = frames
        self.dimension = values.shape[1]

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Frames `start` to `stop`, a view where they do not run over the end."""
        first = start % len(self._values)
        if first + stop - start <= len(self._values):
            return self._values[first : first + stop - start]
        return self._values[np.arange(start, stop) % len(self._values)]
