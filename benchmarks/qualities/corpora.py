"""Corpora to train on, each with frames that are held out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gmmcore.data.demo import DemoSettings, draw_shows, known_mixture

__all__ = ["Corpus", "demonstration", "draws", "recorded"]

Frames = npt.NDArray[np.float32]
_HELD_OUT = 100_000
_BLOCK = 100_000


@dataclass(frozen=True)
class Corpus:
    """Frames of a name; `is_speech` says that they are recorded."""

    name: str
    training: Frames
    held_out: Frames
    is_speech: bool = False

    @property
    def slug(self) -> str:
        """The name as a part of a file's name."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


def recorded(name: str, path: Path) -> Corpus:
    """Features of a folder of ``.npy`` files, or of an ``.npz`` file, one array a show."""
    if path.is_dir():
        shows = [np.load(file) for file in sorted(path.glob("*.npy"))]
    else:
        with np.load(path) as archive:
            shows = [archive[show] for show in sorted(archive.files)]
    return _divided(name, shows, is_speech=True)


def demonstration(settings: DemoSettings) -> Corpus:
    """The speech of the demonstration corpus."""
    rng = np.random.default_rng(0)
    mixture = known_mixture(rng, settings.components, settings.dimension)
    _, shows = draw_shows(rng, mixture, settings)
    speech = [show.frames[show.speech] for show in shows]
    return _divided("demonstration corpus", speech, is_speech=False)


def _divided(name: str, shows: Iterable[npt.NDArray[np.floating]], *, is_speech: bool) -> Corpus:
    """Hold out the last fifth of every show: the same speakers, but hardly a neighbouring frame."""
    training, held_out = [], []
    for show in shows:
        edge = len(show) * 4 // 5
        training.append(show[:edge])
        held_out.append(show[edge:])
    return Corpus(
        name,
        np.concatenate(training).astype(np.float32),
        np.concatenate(held_out).astype(np.float32),
        is_speech,
    )


def draws(frames: int, gaussians: int = 700, dimension: int = 60) -> Corpus:
    """Draws from Gaussians with full covariances that overlap, of different weights.

    A mixture of diagonal components has no truth to find here, as it has none in speech.
    """
    rng = np.random.default_rng(0)
    means = 1.2 * rng.standard_normal((gaussians, dimension))
    weights = rng.dirichlet(np.full(gaussians, 2.0))
    factors = np.empty((gaussians, dimension, dimension), np.float32)
    for factor in factors:
        rotation = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0]
        factor[:] = 0.8 * rotation * np.exp(0.6 * rng.standard_normal(dimension))
    values = np.empty((frames + _HELD_OUT, dimension), np.float32)
    # In blocks, so that nothing but the frames themselves takes much memory.
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        drawn = rng.choice(gaussians, len(block), p=weights)
        rng.standard_normal(dtype=np.float32, out=block)
        for gaussian in np.unique(drawn):
            chosen = np.flatnonzero(drawn == gaussian)
            block[chosen] = block[chosen] @ factors[gaussian].T + means[gaussian]
    return Corpus(f"draws, {frames:,} frames", values[:frames], values[frames:])
