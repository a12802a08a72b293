"""Passes over the frames until EM converges, with and without acceleration, on twenty corpora.

    python -m benchmarks.acceleration [--features DIR] [--llk-gain 1e-5] [--seed 0]

With `--features`, the corpora are random halves of the .npy files in a folder, each a show of
shape (F, D); without, they are drawn. Each has 16, 32, 64 or 128 components. A training of two
iterations after each split makes the first mixture, from which the last stage goes on until a step
of EM gains less than `--llk-gain` per frame. Every E-step counts as a pass, rejected ones too.
"To EM's end" counts those until the likelihood per frame is at most 1e-4 below that which EM ends
at; the accelerated training may go on to a better one. "Lower" and "higher" are corpora where the
likelihood at the end differs by more than 1e-4.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gmmcore.core.frames import ArraySource
from gmmcore.core.history import HistoryEntry
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.schedule import Course, Stage
from gmmcore.core.train import TrainingSettings, iterate, train

CORPORA = 20
COMPONENTS = (16, 32, 64, 128)
# A difference of the likelihood per frame that counts.
DIFFERENCE = 1e-4


def drawn(seed: int, components: int, count: int) -> np.ndarray:
    """Draw frames of components with full covariances, which a diagonal mixture cannot fit well."""
    rng = np.random.default_rng(seed)
    dimension = int(rng.choice([13, 20, 39, 60]))
    truth = int(components * rng.choice([1, 2, 4]))
    spread = rng.uniform(0.5, 1.2)
    chosen = rng.choice(truth, size=count, p=rng.dirichlet(np.full(truth, 2.0)))
    frames = np.empty((count, dimension), dtype=np.float32)
    for component in range(truth):
        index = np.flatnonzero(chosen == component)
        axes = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0]
        scales = np.exp(0.6 * rng.standard_normal(dimension))
        noise = rng.standard_normal((len(index), dimension)) * scales @ axes.T
        frames[index] = spread * rng.standard_normal(dimension) + 0.8 * noise
    return frames


def corpora(folder: str | None, seed: int, count: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the frames of each corpus and a number of components."""
    shows = [np.load(path) for path in sorted(Path(folder).glob("*.npy"))] if folder else []
    if folder and not shows:
        sys.exit(f"{folder}: no .npy files")
    for index in range(CORPORA):
        components = COMPONENTS[index % len(COMPONENTS)]
        if not folder:
            yield drawn(seed + index, components, count), components
            continue
        rng = np.random.default_rng(seed + index)
        half = rng.choice(len(shows), size=-(-len(shows) // 2), replace=False)
        frames = np.concatenate([shows[show] for show in np.sort(half)])
        if len(frames) > count:
            frames = frames[np.sort(rng.choice(len(frames), size=count, replace=False))]
        yield frames, components


def last_stage(
    frames: np.ndarray, first: GaussianMixture, llk_gain: float, acceleration: str
) -> list[HistoryEntry]:
    """Train the last stage until it converges."""
    stage = Stage("diag", first.components, 9999, "split")
    settings = TrainingSettings(llk_gain=llk_gain, acceleration=acceleration)
    return iterate(first, ArraySource(frames), Course(stage, llk_gain), settings)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--features", help="folder of .npy files")
    parser.add_argument("--frames", type=int, default=12_000, help="of a corpus, at most")
    parser.add_argument("--llk-gain", type=float, default=1e-5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(
        "| corpus | D | components | EM | momentum | ratio | to EM's end | rejected | likelihood |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    pairs, differences, reached, fallen = [], [], [], 0
    found = corpora(arguments.features, arguments.seed, arguments.frames)
    for number, (frames, components) in enumerate(found, 1):
        splits = (components - 1).bit_length()
        settings = TrainingSettings(frames_per_component=None)
        first = train(frames, components, [2] * splits + [0], settings=settings)[0]
        plain, fast = (
            last_stage(frames, first, arguments.llk_gain, name) for name in ("none", "momentum")
        )
        pairs.append((len(plain), len(fast)))
        differences.append(fast[-1].log_likelihood - plain[-1].log_likelihood)
        wanted = plain[-1].log_likelihood - DIFFERENCE
        reached.append(next((e.iteration for e in fast if e.log_likelihood >= wanted), None))
        rejected = sum(entry.step == "rejected" for entry in fast)
        fallen += sum(entry.step == "extrapolated" and entry.gain < 0 for entry in fast)
        print(
            f"| {number} | {frames.shape[1]} | {components} | {len(plain)} | {len(fast)} "
            f"| {len(fast) / len(plain):.2f} | {reached[-1] or '-'} | {rejected} "
            f"| {differences[-1]:+.5f} |",
            flush=True,
        )
    halved = sum(2 * fast <= plain for plain, fast in pairs)
    there = sum(
        at is not None and 2 * at <= plain for at, (plain, _) in zip(reached, pairs, strict=True)
    )
    plain, fast = map(sum, zip(*pairs, strict=True))
    print(
        f"\n{plain} passes of EM, {fast} with momentum; at most half as many in {halved} of "
        f"{CORPORA} corpora, at EM's end in {there}; accepted decreases: {fallen}\n"
        f"likelihood lower in "
        f"{sum(value < -DIFFERENCE for value in differences)}, higher in "
        f"{sum(value > DIFFERENCE for value in differences)} corpora"
    )


if __name__ == "__main__":
    main()
