"""How fast an iteration is: ``python -m benchmarks.speed``.

Without more, beside a floor and the peers in ``benchmarks/requirements.txt`` that are installed:

    python -m benchmarks.speed
    python -m benchmarks.speed --against FOLDER   # another checkout, in turn with this one
    python -m benchmarks.speed --workers          # two workers, beside two processes apart

Prints tables in Markdown. ``--quick`` runs everything, small: its times say nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before numpy: threads of the matrix products are the peers' own business.
os.environ.setdefault("OPENBLAS_NUM_THREADS", str(os.cpu_count() or 1))

import numpy as np
import numpy.typing as npt
import threadpoolctl

from benchmarks.common import (
    DIMENSION,
    ROOT,
    Frames,
    Seconds,
    Work,
    clusters,
    cpu_name,
    improved,
    measure,
    mixtures,
    table,
)
from benchmarks.contender import Contender
from gmmcore.core.mixture import GaussianMixture


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    frames: int = 100_000
    diagonal: tuple[int, ...] = (64, 512, 2048)
    full: tuple[int, ...] = (128, 512)
    full_frames: int = 50_000
    rounds: int = 7
    peer_rounds: int = 2


QUICK = Sizes(2000, (8, 128), (8,), 1000, 1, 1)


def main() -> None:
    """Run the benchmark; see the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout")
    parser.add_argument("--workers", action="store_true", help="two workers of the workflow")
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    given = parser.parse_args()
    if given.against and not (given.against / "gmmcore").is_dir():
        parser.error(f"--against {given.against}: has no folder gmmcore; expected a checkout")
    sizes = QUICK if given.quick else Sizes()
    print(f"{cpu_name()}, {os.cpu_count()} cores, numpy {np.__version__}\n", flush=True)
    if given.against:
        against(given.against.resolve(), sizes)
    elif given.workers:
        workers(sizes)
    else:
        peers(sizes)


def against(other: Path, sizes: Sizes) -> None:
    """Compare another checkout with this one, in turn: E-steps, and a whole training."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        frames = clusters(sizes.frames)
        np.save(f"{folder}/frames.npy", frames)
        sides = [Contender(path, Path(folder, "frames.npy")) for path in (other, ROOT)]
        orders: dict[str, dict[str, Any]] = {}
        for full, wanted in ((False, sizes.diagonal), (True, sizes.full)):
            last = sizes.full_frames if full else sizes.frames
            for components, mixture in mixtures(frames[:last], wanted, full=full).items():
                name = f"E-step, {components} {'full' if full else 'diagonal'}"
                orders[name] = {"mixture": saved(mixture, folder), "last": last}
        orders["training to 64 diagonal"] = {"last": sizes.frames // 5}
        for name, order in orders.items():
            taken = [side.take(first=0, **order) for _ in range(sizes.rounds) for side in sides]
            before, now = min(taken[::2]), min(taken[1::2])
            rows.append([name, f"{before:.3f}", f"{now:.3f}", f"{now / before:.2f}"])
        for side in sides:
            side.close()
    print(table(["", f"s, {other.name}", "s, here", "ratio"], rows))


def workers(sizes: Sizes) -> None:
    """Compare two workers with two processes that share nothing and have half of the frames each.

    What is missing to 100% is what the workers cost; what the processes miss to half of the time
    of one is the machine's.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        frames = clusters(sizes.frames)
        np.save(f"{folder}/frames.npy", frames)
        first, second = (Contender(ROOT, Path(folder, "frames.npy")) for _ in range(2))
        half = len(frames) // 2
        for components, mixture in mixtures(frames, sizes.diagonal, full=False).items():
            path = saved(mixture, folder)
            one, team, apart = [], [], []
            for _ in range(sizes.rounds):
                one.append(first.take(mixture=path, first=0, last=len(frames)))
                team.append(first.take(mixture=path, first=0, last=len(frames), workers=2))
                first.ask(mixture=path, first=0, last=half)
                second.ask(mixture=path, first=half, last=len(frames))
                apart.append(max(first.answer(), second.answer()))
            seconds = [min(taken) for taken in (one, team, apart)]
            rows.append(
                [
                    str(components),
                    *(f"{each:.3f}" for each in seconds),
                    f"{seconds[2] / seconds[1]:.0%}",
                ]
            )
        first.close()
        second.close()
    print(table(["components", "s, one", "s, 2 workers", "s, 2 processes apart", "share"], rows))


def saved(mixture: GaussianMixture, folder: str) -> str:
    """Write a mixture where `Contender` reads it, and return the path."""
    path = f"{folder}/mixture-{mixture.components}{mixture.is_full}.npz"
    np.savez(path, mixture.weights, mixture.means, mixture.covariances)
    return path


def peers(sizes: Sizes) -> None:
    """Compare iterations with a floor and with other programs.

    Times are wall seconds, and CPU seconds in brackets; ratios are of CPU seconds.
    """
    frames = clusters(sizes.frames)
    head = ["floor", "exact", "default", "scikit-learn", "scikit-learn, 2 threads"]
    head += ["scikit-learn, float64", "SIDEKIT", "Kaldi"]
    rows = []
    for full, wanted in ((False, sizes.diagonal), (True, sizes.full)):
        some = frames[: sizes.full_frames] if full else frames
        for components, mixture in mixtures(some, wanted, full=full).items():
            times = contest(mixture, some, sizes)
            peer = times.get("scikit-learn")
            kind = "full" if full else "diagonal"
            rows.append(
                [
                    f"{components} {kind}, {len(some):,} x {DIMENSION}",
                    *(str(times.get(name, "-")) for name in head),
                    f"{peer.cpu / times['default'].cpu:.1f}" if peer else "-",
                ]
            )
            print(rows[-1][0], flush=True, file=sys.stderr)
    print(table(["iteration", *head, "scikit-learn / default"], rows))


def contest(mixture: GaussianMixture, frames: Frames, sizes: Sizes) -> dict[str, Seconds]:
    """Measure all contenders that can run, one thread each unless their name says otherwise."""
    quick: dict[str, Work] = {
        "exact": lambda: improved(mixture, frames, 0.0),
        "default": lambda: improved(mixture, frames),
    }
    if not mixture.is_full:
        quick["floor"] = floor(mixture, frames)
    slow: dict[str, Work] = {}
    if importlib.util.find_spec("sklearn"):
        slow["scikit-learn"] = scikit_learn(mixture, frames, 1)
        slow["scikit-learn, 2 threads"] = scikit_learn(mixture, frames, 2)
        if mixture.components <= 512:  # More would take gigabytes.
            slow["scikit-learn, float64"] = scikit_learn(mixture, frames.astype(float), 1)
    if not mixture.is_full and importlib.util.find_spec("sidekit"):
        slow["SIDEKIT"] = sidekit(mixture, frames)
    if not mixture.is_full and importlib.util.find_spec("kaldi_hmm_gmm"):
        slow["Kaldi"] = kaldi(mixture, frames)
    return measure(quick, sizes.rounds) | measure(slow, sizes.peer_rounds)


def floor(mixture: GaussianMixture, frames: Frames, block: int = 512) -> Work:
    """The two float32 matrix products of a dense E-step with diagonal covariances, and no more."""
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


def scikit_learn(mixture: GaussianMixture, frames: npt.NDArray[Any], threads: int) -> Work:
    """Its own E- and M-step, once each, in the frames' precision."""
    from sklearn.mixture import GaussianMixture as Peer

    kind = "full" if mixture.is_full else "diag"
    # Of the size of our floors: components may have fewer frames than dimensions.
    peer = Peer(mixture.components, covariance_type=kind, reg_covar=1e-3)
    precisions = mixture.precisions
    factors = np.linalg.cholesky(precisions) if mixture.is_full else np.sqrt(precisions)

    def work() -> None:
        peer.weights_ = mixture.weights.astype(frames.dtype)
        peer.means_ = mixture.means.astype(frames.dtype)
        peer.precisions_cholesky_ = factors.astype(frames.dtype)
        with threadpoolctl.threadpool_limits(threads):
            _, log_responsibilities = peer._e_step(frames)
            peer._m_step(frames, log_responsibilities)

    return work


def sidekit(mixture: GaussianMixture, frames: Frames) -> Work:
    """SIDEKIT's E- and M-step."""
    import copy

    from sidekit import Mixture

    def work() -> None:
        peer = Mixture()
        peer.w = mixture.weights.copy()
        peer.mu = mixture.means.copy()
        peer.invcov = mixture.precisions.copy()
        peer.cov_var_ctl = np.ones_like(mixture.means)
        peer._compute_all()
        sums = copy.deepcopy(peer)
        sums._reset()
        with threadpoolctl.threadpool_limits(1):
            peer._expectation(sums, frames)
            peer._maximization(sums)

    return work


def kaldi(mixture: GaussianMixture, frames: Frames) -> Work:
    """Kaldi's accumulation over all Gaussians, frame by frame."""
    import kaldi_hmm_gmm

    model = kaldi_hmm_gmm.DiagGmm(mixture.components, mixture.dimension)
    model.set_weights(mixture.weights.astype(np.float32))
    model.set_invvars_and_means(
        mixture.precisions.astype(np.float32), mixture.means.astype(np.float32)
    )
    model.compute_gconsts()
    sums = kaldi_hmm_gmm.AccumDiagGmm()
    flags = kaldi_hmm_gmm.str_to_gmm_flags("mvw")
    sums.resize(mixture.components, mixture.dimension, flags)

    def work() -> None:
        for frame in frames:
            sums.accumulate_from_diag(model, frame, 1.0)

    return work


if __name__ == "__main__":
    main()
