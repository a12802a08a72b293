"""What is known of a finished training: for its report, and to compare it with others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gmmcore.config.settings import Settings
from gmmcore.core.estep import accumulate
from gmmcore.core.history import HistoryEntry
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.sizes import Size, sizes
from gmmcore.data.corpus import Corpus
from gmmcore.formats.hdf5 import Model, load_model
from gmmcore.workflow.timing import StageTime, stage_time

__all__ = ["Outcome", "StageHistory", "read_outcome"]


@dataclass(frozen=True)
class StageHistory:
    """The iterations of a stage, and the time that they took.

    Attributes
    ----------
    name : str
        Name of the stage, such as ``diag/64``.
    entries : tuple of HistoryEntry
    time : StageTime or None
        Time of the job that last worked on it; None if it is not known.
    device : str or None
        The device that computed its last iteration; None for the processor.
    """

    name: str
    entries: tuple[HistoryEntry, ...]
    time: StageTime | None
    device: str | None = None

    @property
    def is_timed(self) -> bool:
        """Whether the time is that of all iterations."""
        return self.time is not None and self.time.iterations == len(self.entries)

    @property
    def timed_frames(self) -> int:
        """Number of frames that the iterations of `time` read; they are the last ones."""
        count = self.time.iterations if self.time else 0
        return sum(entry.frames for entry in self.entries[len(self.entries) - count :])


@dataclass(frozen=True)
class Outcome:
    """A finished training.

    Attributes
    ----------
    name : str
        Name of the run.
    settings : Settings
    model : Model
        The final mixture with its provenance.
    corpus : Corpus
    sample : ndarray, shape (F, D), float32
        All frames, or a sample of them.
    stages : tuple of StageHistory
    sizes : tuple of Size
        The last mixtures of the stages. Their log-likelihoods are those of the sample.
    """

    name: str
    settings: Settings
    model: Model
    corpus: Corpus
    sample: npt.NDArray[np.float32]
    stages: tuple[StageHistory, ...]
    sizes: tuple[Size, ...]


def read_outcome(
    final: Path,
    mixtures: Sequence[str],
    corpus: Corpus,
    sample: npt.NDArray[np.float32],
    logs: Path,
    settings: Settings,
    held_out: npt.NDArray[np.float32] | None = None,
    threads: int = 1,
) -> Outcome:
    """Read a finished training.

    Parameters
    ----------
    final
        File of the final mixture, in the folder of the run.
    mixtures
        Files of the last mixtures of the stages that `sizes` is to have, in their order.
    corpus : Corpus
    sample : ndarray, shape (F, D), float32
        Its frames, or a sample of them; see `gmmcore.data.sample`.
    logs
        Folder of the logs of the run. Without the logs, times are not known.
    settings : Settings
        Settings of the run.
    held_out : ndarray, shape (F, D), float32, optional
        The held-out frames, or a sample of them.
    threads : int
        Number of threads. The result does not depend on it.

    Raises
    ------
    GmmcoreError
        If a file is missing or damaged.
    """
    model = load_model(final)
    found, devices = {}, {}
    for path in mixtures:
        last = load_model(path)
        training, other = (
            nan if part is None else _log_likelihood(last.mixture, part, threads)
            for part in (sample, held_out)
        )
        stage = last.facts["stage"], last.facts["components"]
        found[stage] = last.mixture, training, other
        devices[stage] = last.facts.get("device")
    stages = []
    for kind, components in dict.fromkeys((e.stage, e.components) for e in model.history):
        entries = tuple(e for e in model.history if (e.stage, e.components) == (kind, components))
        name = f"{kind}/{components}"
        device = devices.get((kind, components))
        stages.append(StageHistory(name, entries, stage_time(logs / f"{name}.log"), device))
    known = sizes(found, model.history, corpus.frames, settings.llk_gain)
    name = os.path.basename(os.path.dirname(os.path.abspath(final)))
    return Outcome(name, settings, model, corpus, sample, tuple(stages), known)


def _log_likelihood(
    mixture: GaussianMixture, frames: npt.NDArray[np.float32], threads: int
) -> float:
    found = accumulate(mixture, frames, precision="single", threads=threads)
    return found.log_likelihood / found.frames
