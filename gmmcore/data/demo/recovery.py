"""Comparison of a trained mixture with the mixture that its frames were drawn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gmmcore.core.estep import accumulate
from gmmcore.core.frames import FrameSource
from gmmcore.core.mixture import GaussianMixture

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Recovery:
    """Pairs of a true and a trained component, in which each occurs at most once.

    Attributes
    ----------
    pairs : ndarray, shape (P, 2)
        Numbers of the true and of the trained component.
    mean_errors : ndarray, shape (P, D), float64
        Differences of the means, in standard deviations of the true component.
    weight_errors : ndarray, shape (P,), float64
        Relative differences of the weights.
    """

    pairs: npt.NDArray[np.intp]
    mean_errors: Array
    weight_errors: Array

    def found(self, tolerance: float = 0.5) -> int:
        """Count the pairs whose means differ by less than `tolerance` in every dimension."""
        return int((np.abs(self.mean_errors) < tolerance).all(axis=1).sum())


def compare_to_truth(truth: GaussianMixture, mixture: GaussianMixture) -> Recovery:
    """Pair the components so that the sum of squared distances of their means is smallest."""
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
    """Tell how close a training came to the mixture that its frames were drawn from."""
    trained, known = (
        accumulate(model, frames).log_likelihood_per_frame for model in (mixture, truth)
    )
    recovery = compare_to_truth(truth, mixture)
    errors = np.abs(recovery.mean_errors)
    return (
        f"log-likelihood/frame: {trained:.4f} trained, {known:.4f} of the true mixture "
        f"({trained - known:+.4f})\n"
        f"{recovery.found()} of {truth.components} true components recovered (every coefficient "
        "of the mean within 0.5 standard deviations)\n"
        f"error of the means, in standard deviations: median {np.median(errors):.3f}, "
        f"largest {errors.max():.3f}\n"
        f"error of the weights: median {np.median(np.abs(recovery.weight_errors)):.1%}\n"
    )
