"""Whole trainings on real speech: single precision with pruning against double and exact."""

from __future__ import annotations

import functools
from pathlib import Path

import h5py
import numpy as np
import pytest

from gmmcore.core.estep import accumulate
from gmmcore.core.train import TrainingSettings, train


@functools.cache
def speech(folder: Path) -> np.ndarray:
    """Energy and cepstra of all shows, and the change from the frame before to the next."""
    shows = []
    for path in sorted((folder / "features" / "sidekit_none").glob("*.h5")):
        with h5py.File(path) as file:
            show = next(file[name] for name in file if name != "compression")
            static = np.hstack([show["energy"][()].reshape(-1, 1), show["cep"][()]])
            shows.append(np.hstack([static[1:-1], static[2:] - static[:-2]]))
    return np.concatenate(shows).astype(np.float32)


@pytest.mark.parametrize("shift", [0, 1000])
def test_a_training_in_single_with_pruning_ends_where_double_does(data, shift):
    frames = speech(data).astype(np.float64)
    frames = (frames + shift * frames.std(axis=0)).astype(np.float32)
    ends = []
    for precision, pruning in (("double", 0.0), ("single", 2e-8)):
        settings = TrainingSettings(-np.inf, precision, pruning)
        mixture, _ = train(frames, 128, (1, 2, 2, 3, 3, 3, 3), settings=settings)
        ends.append(accumulate(mixture, frames).log_likelihood_per_frame)
    assert ends[1] == pytest.approx(ends[0], abs=1e-5)
