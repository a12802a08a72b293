"""The sizes that a training passed: the last mixture of each stage as a model to choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, log, nan

from gmmcore.core.cautions import gain_left
from gmmcore.core.history import HistoryEntry
from gmmcore.core.mixture import GaussianMixture

__all__ = ["Size", "sizes"]


@dataclass(frozen=True)
class Size:
    """What is known of the last mixture of a stage.

    Attributes
    ----------
    kind : str
        ``diag`` or ``full``.
    components : int
        Number of components.
    parameters : int
        Number of free parameters.
    iterations : int
        Number of iterations of the stage.
    trained_on : int
        Number of frames that the last of them read.
    frames : int
        Number of all frames.
    log_likelihood : float
        Log-likelihood per frame of the mixture (natural logarithm), on frames that are the same for
        all sizes.
    held_out : float
        The same on the held-out frames; NaN if there are none.
    ended : str
        ``converged``, ``limit`` (of iterations), or empty without iterations.
    gain : float
        The gain that was left at the limit; NaN if there is none or it is not known.
    """

    kind: str
    components: int
    parameters: int
    iterations: int
    trained_on: int
    frames: int
    log_likelihood: float
    held_out: float
    ended: str
    gain: float

    @property
    def name(self) -> str:
        """Name of the stage, such as ``diag/64``."""
        return f"{self.kind}/{self.components}"

    @property
    def bic(self) -> float:
        """Bayesian information criterion, as in scikit-learn; lower is better."""
        return -2 * self.frames * self.log_likelihood + self.parameters * log(self.frames)

    @property
    def aic(self) -> float:
        """Akaike information criterion, as in scikit-learn; lower is better."""
        return -2 * self.frames * self.log_likelihood + 2 * self.parameters


def sizes(
    mixtures: Mapping[tuple[str, int], tuple[GaussianMixture, float, float]],
    history: Sequence[HistoryEntry],
    frames: int,
    llk_gain: float,
) -> tuple[Size, ...]:
    """Gather what is known of the last mixture of each stage.

    Parameters
    ----------
    mixtures : mapping
        The last mixture of each stage and its log-likelihoods per frame, of training and held-out
        frames, by kind and components.
    history : sequence of HistoryEntry
        The iterations of all stages.
    frames : int
        Number of all frames.
    llk_gain : float
        A stage has converged if the log-likelihood per frame grew by less.
    """
    result = []
    for (kind, components), (mixture, value, held_out) in mixtures.items():
        entries = [e for e in history if (e.stage, e.components) == (kind, components)]
        gain = gain_left(entries, llk_gain)
        result.append(
            Size(
                kind,
                components,
                mixture.parameters,
                len(entries),
                entries[-1].frames if entries else 0,
                frames,
                value,
                held_out,
                _ended(entries, gain),
                nan if gain is None or isnan(gain) else gain,
            )
        )
    return tuple(result)


def _ended(entries: Sequence[HistoryEntry], gain: float | None) -> str:
    if not entries:
        return ""
    return "converged" if gain is None else "limit"
