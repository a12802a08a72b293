"""One EM iteration of each contender, on the same frames from the same mixture."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import threadpoolctl

from gmmcore.config.steps import MStep
from gmmcore.core.estep import ESteps, accumulate
from gmmcore.core.frames import ArraySource
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.mstep import maximise
from gmmcore.core.parallel import processes_map

__all__ = ["floor", "kaldi", "missing", "ours", "scikit_learn", "sidekit", "team"]

Frames = npt.NDArray[np.float32]
Work = Callable[[], object]
SETTINGS = MStep()


def floor(mixture: GaussianMixture, frames: Frames, block: int = 512) -> Work:
    """The two float32 matrix products of a dense E-step with diagonal covariances, and no more.

    The products [x^2, x] are made before the clock starts.
    """
    products = np.hstack([frames**2, frames])
    coefficients = np.hstack(
        [-0.5 * mixture.precisions, mixture.precisions * mixture.means]
    ).T.astype(np.float32, order="C")
    logs = np.empty((block, mixture.components), np.float32)
    # Ordinary numbers: denormal ones would make it slower.
    posteriors = np.full(logs.shape, 1.0 / mixture.components, np.float32)
    sums = np.empty((mixture.components, products.shape[1]), np.float32)

    def work() -> None:
        with threadpoolctl.threadpool_limits(1, user_api="blas"):
            for start in range(0, len(products), block):
                part = products[start : start + block]
                np.matmul(part, coefficients, out=logs[: len(part)])
                np.matmul(posteriors[: len(part)].T, part, out=sums)

    return work


def ours(mixture: GaussianMixture, frames: Frames, threads: int, pruning: float) -> Work:
    """E-step in single precision and M-step."""

    def work() -> GaussianMixture:
        statistics = accumulate(
            mixture, frames, precision="single", pruning=pruning, threads=threads
        )
        return maximise(mixture, statistics, SETTINGS, threads=threads).mixture

    return work


@contextmanager
def team(
    frames: Frames, workers: int, pruning: float, first: GaussianMixture
) -> Iterator[Callable[[GaussianMixture], GaussianMixture]]:
    """Do the same with worker processes, which are there before the clock starts."""
    source = ArraySource(frames)
    steps = ESteps(
        lambda _: source,
        precision="single",
        pruning=pruning,
        workers=workers,
        map_of=processes_map,
    )

    def step(mixture: GaussianMixture) -> GaussianMixture:
        return maximise(mixture, steps.statistics(mixture, 0), SETTINGS, threads=workers).mixture

    yield step


def scikit_learn(mixture: GaussianMixture, frames: npt.NDArray[Any], threads: int) -> Work:
    """Its own E- and M-step, once each, in the frames' precision."""
    from sklearn.mixture import GaussianMixture as Peer

    kind = "full" if mixture.is_full else "diag"
    # Of the size of our floors: components may have fewer frames than dimensions.
    peer = Peer(mixture.components, covariance_type=kind, reg_covar=1e-3)
    peer.weights_ = mixture.weights.astype(frames.dtype)
    peer.means_ = mixture.means.astype(frames.dtype)
    precisions = mixture.precisions
    factors = np.linalg.cholesky(precisions) if mixture.is_full else np.sqrt(precisions)
    peer.precisions_cholesky_ = factors.astype(frames.dtype)

    def work() -> None:
        with threadpoolctl.threadpool_limits(threads):
            _, log_responsibilities = peer._e_step(frames)
            peer._m_step(frames, log_responsibilities)
        # As it was, for the next round.
        peer.weights_ = mixture.weights.astype(frames.dtype)
        peer.means_ = mixture.means.astype(frames.dtype)
        peer.precisions_cholesky_ = factors.astype(frames.dtype)

    return work


def missing() -> list[str]:
    """A line for every peer that is not installed."""
    lines = []
    if importlib.util.find_spec("sklearn") is None:
        lines.append("scikit-learn: not installed, not measured")
    if importlib.util.find_spec("sidekit") is None:
        lines.append("SIDEKIT: not installed, not measured")
    if shutil.which("gmm-global-acc-stats") is None:
        lines.append("Kaldi (gmm-global-acc-stats): not installed, not measured")
    return lines


def sidekit(mixture: GaussianMixture, frames: Frames) -> Work | None:
    """SIDEKIT's E- and M-step with one thread, diagonal only; None where it is not installed."""
    if mixture.is_full or importlib.util.find_spec("sidekit") is None:
        return None
    import copy

    from sidekit import Mixture

    def work() -> None:
        peer = Mixture()
        peer.w = mixture.weights.copy()
        peer.mu = mixture.means.copy()
        peer.invcov = mixture.precisions.copy()
        peer._compute_all()
        sums = copy.deepcopy(peer)
        sums._reset()
        with threadpoolctl.threadpool_limits(1):
            peer._expectation(sums, frames)
            peer._maximization(sums)

    return work


def kaldi(mixture: GaussianMixture, frames: Frames, folder: Path) -> Work | None:
    """Kaldi's accumulation over all Gaussians; None where it is not installed."""
    command = shutil.which("gmm-global-acc-stats")
    if mixture.is_full or command is None:
        return None
    import kaldiio

    from gmmcore.formats.registry import write_mixture

    place = Path(tempfile.mkdtemp(dir=folder))
    kaldiio.save_ark(str(place / "frames.ark"), {"all": frames})
    write_mixture(place / "mixture.dubm", mixture, "kaldi")

    def work() -> None:
        subprocess.run(
            [command, place / "mixture.dubm", f"ark:{place / 'frames.ark'}", place / "sums"],
            check=True,
            capture_output=True,
        )

    return work
