"""Over-fitting: full covariances with and without a prior, and components of few frames.

    python -m benchmarks.full --features digits.npz          # or a folder of .npy files
    python -m benchmarks.full                                # draws from 700 Gaussians

Prints the log-likelihood per frame (natural logarithm) on the training frames and on held-out ones:
the last fifth of every show, or further draws. Full stages of four iterations begin from the
diagonal mixture of each size. The second table trains 64 diagonal components on 300 frames that
are whitened, with the rule for low counts, without it, and with scikit-learn.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.qualities.corpora import Corpus, draws, recorded
from gmmcore.config.steps import FullMStep, MStep
from gmmcore.core.estep import accumulate
from gmmcore.core.frames import ArraySource
from gmmcore.core.initial import to_full
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.schedule import Course, Stage
from gmmcore.core.train import TrainingSettings, iterate, train

Frames = npt.NDArray[np.floating]
PRIORS = (0.0, 1.0, 2.0, 4.0)  # in dimensions
FEW = 300


def settings(**more: object) -> TrainingSettings:
    """Precision of the workflow, and all frames in every iteration."""
    return TrainingSettings(  # type: ignore[arg-type]
        **{"precision": "single", "pruning": 2e-8, "frames_per_component": None, **more}
    )


def likelihoods(mixture: GaussianMixture, corpus: Corpus) -> str:
    """Training and held-out log-likelihood per frame."""
    found = [
        accumulate(mixture, frames, precision="single", pruning=2e-8).log_likelihood_per_frame
        for frames in (corpus.training, corpus.held_out)
    ]
    return f"{found[0]:9.2f} {found[1]:9.2f}"


def full_covariances(corpus: Corpus, sizes: list[int]) -> None:
    """Print the first table."""
    dimension = corpus.training.shape[1]
    print(f"{corpus.name}: {len(corpus.training)} frames of dimension {dimension}, full stages")
    for components in sizes:
        diagonal, _ = train(corpus.training, components, settings=settings())
        each = len(corpus.training) / components
        print(f"{components:5} components, {each:6.0f} frames each {'diagonal':>22}", end=" ")
        print(likelihoods(diagonal, corpus))
        course = Course(Stage("full", components, 4, "diag2full"), -math.inf)
        for least in (10.0, float(dimension)):
            for prior in PRIORS:
                step = FullMStep(occupancy=least, prior=prior * dimension)
                of_step = settings(full=step)
                mixture, _ = iterate(
                    to_full(diagonal), ArraySource(corpus.training), course, of_step
                )
                name = f"occupancy {least:g}, prior {prior * dimension:g}"
                print(f"{name:>58} {likelihoods(mixture, corpus)}", flush=True)


def few_frames(corpus: Corpus) -> None:
    """Print the second table."""
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(corpus.training), FEW, replace=False)
    mean, deviation = corpus.training.mean(axis=0), corpus.training.std(axis=0)
    for dimension in sorted({20, corpus.training.shape[1]}):
        small = Corpus(
            corpus.name,
            ((corpus.training[chosen] - mean) / deviation)[:, :dimension],
            ((corpus.held_out - mean) / deviation)[:, :dimension],
        )
        print(f"{FEW} whitened frames of dimension {dimension}, 64 diagonal components")
        for least in (10.0, 0.0):
            of_step = settings(diag=MStep(occupancy=least), precision="double", pruning=0.0)
            mixture, _ = train(small.training, 64, settings=of_step)
            print(
                f"{f'low_count.occupancy {least:g}':>58} {likelihoods(mixture, small)}", flush=True
            )
        for added in (0.5, 0.01, 1e-6):
            print(f"{f'scikit-learn, reg_covar {added:g}':>58} {peer(small, added)}", flush=True)


def peer(corpus: Corpus, added: float) -> str:
    """The same of scikit-learn's mixture, from k-means."""
    from sklearn.mixture import GaussianMixture as Peer

    frames = corpus.training.astype(float)
    found = Peer(64, covariance_type="diag", reg_covar=added, random_state=0).fit(frames)
    return f"{found.score(frames):9.2f} {found.score(corpus.held_out.astype(float)):9.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--features", type=Path, help="a folder of .npy files, or an .npz file")
    parser.add_argument("--frames", type=int, default=40_000, help="of the draws")
    parser.add_argument("--components", type=int, nargs="+", default=[16, 32, 64, 128, 256])
    given = parser.parse_args()
    path = given.features
    corpus = recorded(path.stem, path) if path else draws(given.frames)
    full_covariances(corpus, given.components)
    few_frames(corpus)


if __name__ == "__main__":
    main()
