"""The demonstration: shows from a known mixture, and its comparison with a trained mixture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from gmmcore.config.keys import DemoSettings
from gmmcore.core.estep import accumulate
from gmmcore.core.frames import FrameSource
from gmmcore.core.mixture import GaussianMixture
from gmmcore.files import PathLike, read_bytes, replace_bytes, replace_text
from gmmcore.formats.hdf5 import hdf5_image, save_model

Array = npt.NDArray[np.float64]
_SILENCE = 0.3  # Share of the frames.
_SILENCE_RUN = 25.0  # Mean length of a silence, in frames.
_SILENCE_ENERGY = -25.0
_NEAREST = 3.0  # Half the distance of the closest means, in standard deviations.
_GROWTH = 1.25  # Ratio of the steps of two levels of the tree of means.
# The weights of the components, a draw of a Dirichlet distribution, differ by about 7 per cent.
# With weights that differ much, the training divides a heavy component before a pair of light
# ones, and ends in a local maximum of the likelihood.
_EVENNESS = 200.0
_RECIPE = "# recipe "


@dataclass(frozen=True)
class Show:
    """A show, ``<speaker>_<number>``; the first coefficient of its frames (F, D) is the energy."""

    name: str
    frames: npt.NDArray[np.float32]
    speech: npt.NDArray[np.bool_]


def write_corpus(folder: str, settings: DemoSettings, seed: int, recipe: str | None = None) -> int:
    """Write shows as SIDEKIT files, their list and the true mixture; return the frame count."""
    place, rng, names, total = Path(folder), np.random.default_rng(seed), [], 0
    mixture = known_mixture(rng, settings.components, settings.dimension)
    truth, shows = draw_shows(rng, mixture, settings)
    save_model(place / "truth.h5", truth, {"stage": "truth", "recipe": recipe}, compress=True)
    for show in shows:
        _write_show(place / f"{show.name}.h5", show)
        names.append(show.name)
        total += len(show.frames)
    # The list comes last, so that its presence proves a complete corpus.
    head = [f"{_RECIPE}{recipe}"] if recipe else []
    replace_text(place / "shows.txt", "\n".join([*head, *names]) + "\n")
    return total


def known_mixture(rng: np.random.Generator, components: int, dimension: int) -> GaussianMixture:
    """Draw a mixture with correlated coefficients whose components form a tree, as phones do."""
    levels = max(1, int(np.ceil(np.log2(components)))) if components > 1 else 0
    leaves = np.arange(components)
    means = 0.4 * rng.standard_normal((components, dimension))
    axes = rng.permutation(dimension)
    for level in range(levels):
        # The bits of the numbers of the leaves are the branches of the tree.
        side = 2 * ((leaves >> level) & 1) - 1
        # A level moves the means by less than the level above.
        chosen = axes[level % dimension :: max(levels, 4)]
        step = _NEAREST * _GROWTH ** (levels - 1 - level) / np.sqrt(len(chosen))
        means[:, chosen] += (side * step)[:, np.newaxis]
    weights = rng.dirichlet(np.full(components, _EVENNESS))
    factors = 0.4 * rng.standard_normal((components, dimension, 2))
    covariances = factors @ factors.transpose(0, 2, 1)
    diagonal = rng.uniform(0.5, 1.2, (components, dimension))
    covariances += diagonal[:, :, np.newaxis] * np.eye(dimension)
    return GaussianMixture.from_covariances(weights, means, covariances)


def draw_shows(
    rng: np.random.Generator, mixture: GaussianMixture, settings: DemoSettings
) -> tuple[GaussianMixture, Iterator[Show]]:
    """Draw shows, one at a time; the first result is the mixture of the speech of all speakers."""
    speakers = settings.speakers
    offsets = settings.offset * rng.standard_normal((speakers, mixture.dimension))
    offsets -= offsets.mean(axis=0)
    # The offsets of the speakers widen each component.
    truth = GaussianMixture.from_covariances(
        mixture.weights, mixture.means, mixture.covariances + offsets.T @ offsets / speakers
    )
    shares = rng.dirichlet(np.full(settings.shows, 8.0))
    edges = np.round(np.cumsum(shares) * settings.frames).astype(int)
    counts = np.diff(edges, prepend=0)

    def shows() -> Iterator[Show]:
        for index, count in enumerate(counts):
            speaker = index % speakers
            speech = _speech(rng, mixture, int(count), settings) + offsets[speaker]
            frames, labels = _with_silence(rng, speech)
            name = f"speaker{speaker:03d}_{index // speakers:04d}"
            yield Show(name, frames.astype(np.float32), labels)

    return truth, shows()


def _speech(
    rng: np.random.Generator, mixture: GaussianMixture, count: int, settings: DemoSettings
) -> Array:
    """Draw frames (count, D) that follow the mixture and often keep the component before."""
    from scipy.signal import lfilter

    changes = rng.random(count) >= settings.persistence
    drawn = rng.choice(mixture.components, count + 1, p=mixture.weights / mixture.weights.sum())
    chosen = drawn[np.cumsum(changes)]
    noise = rng.standard_normal((count, mixture.dimension))
    rho = settings.correlation
    if rho and count:
        innovation = np.sqrt(1.0 - rho * rho)
        noise[0] /= innovation  # The first frame gets the variance of the other frames.
        noise = lfilter([innovation], [1.0, -rho], noise, axis=0)
    factors = np.linalg.cholesky(mixture.covariances)
    return mixture.means[chosen] + np.einsum("fij,fj->fi", factors[chosen], noise)


def _with_silence(rng: np.random.Generator, speech: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Insert runs of silence before, between and after the speech."""
    count, dimension = speech.shape
    total = count * _SILENCE / (1.0 - _SILENCE)
    runs = max(2, round(total / _SILENCE_RUN))
    lengths = 1 + rng.poisson(max(total / runs - 1.0, 0.0), runs)
    places = np.sort(rng.integers(0, count + 1, runs))
    labels = np.insert(np.ones(count, dtype=bool), np.repeat(places, lengths), False)
    frames = 0.5 * rng.standard_normal((len(labels), dimension))
    frames[:, 0] += _SILENCE_ENERGY
    frames[labels] = speech
    return frames, labels


def _write_show(path: Path, show: Show) -> None:
    """Write a show without compression, as SIDEKIT's ``write_hdf5`` does."""

    def build(file: h5py.File) -> None:
        file["compression"] = np.int64(0)
        group = file.create_group(show.name)
        for name, values in (("cep", show.frames[:, 1:]), ("energy", show.frames[:, 0])):
            group[name] = values
            chosen = values[show.speech] if show.speech.any() else values
            group[f"{name}_mean"] = chosen.mean(axis=0, dtype=np.float64).astype(np.float32)
            group[f"{name}_std"] = chosen.std(axis=0, dtype=np.float64).astype(np.float32)
        group["vad"] = show.speech.astype(np.int8)

    replace_bytes(path, hdf5_image(build, user_block=0))


def recipe_of(path: PathLike) -> tuple[str | None, list[str]]:
    """Read the recipe of a demonstration corpus, or None, and its shows from the list."""
    first, *shows = read_bytes(path).decode(errors="replace").splitlines() or [""]
    if not first.startswith(_RECIPE):
        return None, [first, *shows] if first else shows
    return first.removeprefix(_RECIPE), shows


@dataclass(frozen=True)
class Recovery:
    """Pairs (P, 2) of true and trained components, and the errors of the trained ones."""

    pairs: npt.NDArray[np.intp]
    mean_errors: Array  # (P, D), in standard deviations of the true component.
    weight_errors: Array  # (P,), relative to the true weight.

    def found(self, tolerance: float = 0.5) -> int:
        """Count the pairs whose means differ by less than `tolerance` in every dimension."""
        return int((np.abs(self.mean_errors) < tolerance).all(axis=1).sum())


def compare_to_truth(truth: GaussianMixture, mixture: GaussianMixture) -> Recovery:
    """Pair the components with the smallest sum of squared distances of the means."""
    from scipy.optimize import linear_sum_assignment

    variances = truth.covariances
    if truth.is_full:
        variances = np.diagonal(variances, axis1=1, axis2=2)
    scaled = truth.means / np.sqrt(variances)
    distances = np.empty((truth.components, mixture.components))
    for component in range(truth.components):
        others = mixture.means / np.sqrt(variances[component])
        distances[component] = ((others - scaled[component]) ** 2).sum(axis=1)
    rows, columns = linear_sum_assignment(distances)
    return Recovery(
        np.stack([rows, columns], axis=1),
        (mixture.means[columns] - truth.means[rows]) / np.sqrt(variances[rows]),
        mixture.weights[columns] / truth.weights[rows] - 1.0,
    )


def recovery_text(truth: GaussianMixture, mixture: GaussianMixture, frames: FrameSource) -> str:
    """Compare a trained mixture with the true mixture of the frames, in words."""
    trained, known = (
        accumulate(model, frames).log_likelihood_per_frame for model in (mixture, truth)
    )
    recovery = compare_to_truth(truth, mixture)
    errors = np.abs(recovery.mean_errors)
    missing = truth.components - recovery.found()
    why = (
        f"the other {missing} mostly share a trained component, or two trained ones share them: a "
        "local maximum of the likelihood, which EM does not leave\n"
    )
    return (
        f"log-likelihood/frame: {trained:.4f} of the trained mixture, {known:.4f} of the true one, "
        "which is not fitted to these frames\n"
        f"{recovery.found()} of {truth.components} true components recovered (every coefficient "
        "of the mean within 0.5 standard deviations)\n"
        f"{why if missing else ''}"
        f"median error of the means: {np.median(errors):.3f} standard deviations, of the weights: "
        f"{np.median(np.abs(recovery.weight_errors)):.1%}\n"
    )
