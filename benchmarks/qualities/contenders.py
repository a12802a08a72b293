"""Ways to train a mixture of diagonal components, all with the same EM but scikit-learn's."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from benchmarks.qualities.corpora import Frames
from benchmarks.qualities.points import PRECISION, PRUNING, Record
from gmmcore.config.steps import MStep
from gmmcore.core.estep import accumulate
from gmmcore.core.frames import ArraySource
from gmmcore.core.initial import one_gaussian
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.mstep import maximise
from gmmcore.core.train import TrainingSettings, moments, train

__all__ = ["CONTENDERS", "KMEANS_ALONE", "OURS", "SIDEKIT", "TOLERANCES", "peers", "run"]

Array = npt.NDArray[np.float64]
OURS = "default"
SIDEKIT = "SIDEKIT"
KMEANS_ALONE = "scikit-learn's k-means alone"
TOLERANCES = (1e-3, 1e-5)
_GAIN = 0.01  # SIDEKIT's llk_gain.
_LLOYD = 4
_SAMPLE = 20_000
_PRIOR_FRAMES = 10.0
_STEP = MStep()

Train = Callable[[Frames, int, int, Record], GaussianMixture]


def _ours(method: str, frames_per_component: int | None) -> Train:
    def training(frames: Frames, components: int, seed: int, record: Record) -> GaussianMixture:
        settings = TrainingSettings(
            llk_gain=_GAIN,
            method=method,
            frames_per_component=frames_per_component,
            seed=seed,
            precision=PRECISION,
            pruning=PRUNING,
        )
        mixture, _ = train(
            frames, components, settings=settings, report=lambda _, mixture: record.add(mixture)
        )
        return mixture

    return training


def _from_start(start: Callable[[Frames, int, int], GaussianMixture]) -> Train:
    def training(frames: Frames, components: int, seed: int, record: Record) -> GaussianMixture:
        mixture = start(frames, components, seed)
        gain, before = np.inf, -np.inf
        while gain >= _GAIN:
            mixture, value = _improved(mixture, frames)
            gain, before = value - before, value
            record.add(mixture)
        return mixture

    return training


def _improved(mixture: GaussianMixture, frames: Frames) -> tuple[GaussianMixture, float]:
    """An EM iteration, and the log-likelihood per frame before it."""
    found = accumulate(mixture, frames, precision=PRECISION, pruning=PRUNING)
    return maximise(mixture, found, _STEP).mixture, found.log_likelihood_per_frame


def random_frames(frames: Frames, components: int, seed: int) -> GaussianMixture:
    """Means are random frames, variances those of all frames, as Kaldi begins."""
    overall = one_gaussian(moments(ArraySource(frames)))
    chosen = np.random.default_rng(seed).choice(len(frames), components, replace=False)
    variances = np.repeat(overall.covariances, components, axis=0)
    weights = np.full(components, 1 / components)
    return GaussianMixture.from_covariances(weights, frames[chosen], variances, variances)


def k_means(frames: Frames, components: int, seed: int) -> GaussianMixture:
    """k-means++ and a few iterations of Lloyd on a sample, in deviations of all frames."""
    overall = one_gaussian(moments(ArraySource(frames)))
    deviations = np.sqrt(overall.covariances[0])
    rng = np.random.default_rng(seed)
    count = min(len(frames), max(_SAMPLE, 100 * components))
    sample = frames[np.sort(rng.choice(len(frames), count, replace=False))]
    scaled = ((sample - overall.means[0]) / deviations).astype(np.float32)
    norms = np.einsum("ij,ij->i", scaled, scaled)
    # k-means++ as published: one candidate for each centre.
    centres = np.empty((components, scaled.shape[1]), np.float32)
    nearest = np.full(count, np.inf, np.float32)
    chosen = int(rng.integers(count))
    for index in range(components):
        centres[index] = scaled[chosen]
        distances = norms - 2 * (scaled @ centres[index]) + norms[chosen]
        np.minimum(nearest, np.maximum(distances, 0), out=nearest)
        sums = np.cumsum(nearest, dtype=float)
        chosen = min(int(np.searchsorted(sums, rng.random() * sums[-1])), count - 1)
    for _ in range(_LLOYD):
        labels = _nearest(scaled, centres)
        sizes, means, _ = _clusters(labels, scaled, components)
        centres = np.where(sizes[:, np.newaxis] > 0, means, centres).astype(np.float32)
    sizes, means, squares = _clusters(_nearest(scaled, centres), scaled, components)
    # The variances within all clusters count for a few frames of each, so that none is zero.
    within = np.maximum(squares.sum(axis=0) / count, 1e-3)
    variances = (squares + _PRIOR_FRAMES * within) / (sizes[:, np.newaxis] + _PRIOR_FRAMES)
    means = np.where(sizes[:, np.newaxis] > 0, means, centres)
    weights = np.maximum(sizes, 1.0)
    return GaussianMixture.from_covariances(
        weights / weights.sum(),
        overall.means + deviations * means,
        overall.covariances * variances,
        np.repeat(overall.covariances, components, axis=0),
    )


def _nearest(scaled: Frames, centres: Frames) -> npt.NDArray[np.intp]:
    half = 0.5 * np.einsum("ij,ij->i", centres, centres)
    parts = [
        (scaled[start : start + 4096] @ centres.T - half).argmax(axis=1)
        for start in range(0, len(scaled), 4096)
    ]
    return np.concatenate(parts)


def _clusters(
    labels: npt.NDArray[np.intp], scaled: Frames, components: int
) -> tuple[Array, Array, Array]:
    """Sizes, means and sums of squares about them of clusters."""
    order = np.argsort(labels, kind="stable")
    edges = np.searchsorted(labels[order], np.arange(components + 1))
    means = np.zeros((components, scaled.shape[1]))
    squares = np.zeros_like(means)
    for index in range(components):
        own = scaled[order[edges[index] : edges[index + 1]]]
        if len(own):
            means[index] = own.mean(axis=0, dtype=float)
            squares[index] = ((own - means[index]) ** 2).sum(axis=0)
    return np.diff(edges).astype(float), means, squares


# SIDEKIT is the first: its time is what all may use.
CONTENDERS: dict[str, Train] = {
    SIDEKIT: _ours("sidekit", None),
    OURS: _ours("principal", 500),
    "principal, all frames": _ours("principal", None),
    "SIDEKIT's split, subsets": _ours("sidekit", 500),
    "random frames": _from_start(random_frames),
    "k-means++": _from_start(k_means),
}


def run(
    name: str,
    frames: Frames,
    seed: int,
    record: Record,
    budget: float | None = None,
    longer: float = 1.0,
) -> None:
    """Train to the end of the schedule, then go on with EM on all frames.

    It goes on to `longer` times the processor seconds of `budget`, None for its own schedule's.
    """
    mixture = CONTENDERS[name](frames, record.components, seed, record)
    until = longer * (record.seconds if budget is None else budget)
    next_point = record.seconds
    while record.seconds < until:
        mixture, _ = _improved(mixture, frames)
        record.pause()
        # Long ends have a point where the time has grown by a fiftieth.
        if record.seconds >= min(next_point, until):
            record.add(mixture, "more")
            next_point = 1.02 * record.seconds
        record.resume()


def peers(components: int, seed: int) -> dict[str, Callable[[Frames, int, Record], None]]:
    """scikit-learn's mixture from both of its starts, to its tolerance, and its k-means alone.

    With more than 64 components it takes minutes: only its own tolerance, and one seed.
    """
    try:
        from sklearn.cluster import KMeans
        from sklearn.mixture import GaussianMixture as Peer
    except ImportError:
        return {}

    def mixture(start: str, tolerance: float) -> Callable[[Frames, int, Record], None]:
        def training(frames: Frames, seed: int, record: Record) -> None:
            peer = Peer(
                record.components,
                covariance_type="diag",
                init_params=start,
                tol=tolerance,
                max_iter=2000,
                random_state=seed,
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                peer.fit(frames)
            record.pause()
            record.add(
                GaussianMixture.from_covariances(peer.weights_, peer.means_, peer.covariances_)
            )

        return training

    def k_means_alone(frames: Frames, seed: int, record: Record) -> None:
        # As the mixture calls it.
        fitted = KMeans(record.components, n_init=1, random_state=seed).fit(frames)
        record.pause()
        overall = one_gaussian(moments(ArraySource(frames)))
        _, means, squares = _clusters(fitted.labels_, frames, record.components)
        sizes = np.bincount(fitted.labels_, minlength=record.components)[:, np.newaxis]
        variances = np.maximum(squares / np.maximum(sizes, 1), 0.01 * overall.covariances)
        weights = sizes[:, 0] / sizes.sum()
        record.add(GaussianMixture.from_covariances(weights, means, variances))

    found: dict[str, Callable[[Frames, int, Record], None]] = {KMEANS_ALONE: k_means_alone}
    if components > 64 and seed > 1:
        return {}
    for tolerance in TOLERANCES if components <= 64 else TOLERANCES[:1]:
        for start in ("kmeans", "k-means++"):
            shown = "k-means" if start == "kmeans" else start
            found[f"scikit-learn, {shown}, tol {tolerance:g}"] = mixture(start, tolerance)
    return found
