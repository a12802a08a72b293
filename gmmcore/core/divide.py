"""Division of components where the likelihood gains most, decided on a sample of the frames."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from gmmcore.core.density import component_log_likelihoods
from gmmcore.core.estep import accumulate
from gmmcore.core.frames import FrameSource
from gmmcore.core.initial import sample_of, split
from gmmcore.core.merge import merge
from gmmcore.core.mixture import GaussianMixture, covariance_to_precision
from gmmcore.core.mstep import maximise
from gmmcore.core.parallel import single_blas, threads_map
from gmmcore.core.settings import MStep

Array = npt.NDArray[np.float64]
_Frames = npt.NDArray[np.floating]
_BLOCK = 4096
# Number of iterations of EM before components are merged.
_TRIALS = 2
# Posterior below which a component may be left out of them.
_PRUNING = 1e-4
# Number of iterations of two-means that refine a division; EM and mergers follow.
_REFINEMENTS = 1
# Least number of sampled frames in a half.
_LEAST_FRAMES = 4
# Number of frames that the variance of the undivided component counts for in that of a half.
_PRIOR_FRAMES = 10.0
# Number of times that a covariance matrix is squared: eigenvalues are raised to the power of 128.
_SQUARINGS = 7
# Relative difference of gains that may be rounding alone.
_ROUNDING = 1e-6
# Distance in standard deviations, to which a frame is moved from farther away: its fourth power
# stays a number in single precision.
_FARTHEST = 1e6


def divided(
    mixture: GaussianMixture,
    components: int,
    subset: Callable[[int], FrameSource],
    settings: MStep,
    *,
    method: str = "principal",
    threads: int = 1,
) -> GaussianMixture:
    """Divide the components of a mixture as one of the two methods does.

    ``sidekit`` is `gmmcore.core.initial.split`, and reads no frames. ``principal`` is `divide` to
    twice as many components, two iterations of EM, and `gmmcore.core.merge.merge`: all on a sample
    of the frames that `subset` returns for a level; level 0 are all frames.
    """
    if method == "sidekit":
        return split(mixture, components)
    sample = sample_of(subset, _sample_size(components))
    more = divide(mixture, sample, 2 * components, floor=settings.floor, threads=threads)
    for _ in range(_TRIALS):
        statistics = accumulate(more, sample, precision="single", pruning=_PRUNING, threads=threads)
        more = maximise(more, statistics, settings, threads=threads).mixture
    return merge(more, components)


def _sample_size(components: int) -> int:
    """Return the number of frames that `divide` should have for a result of `components`."""
    return max(5_000, 200 * min(components, 500), 100 * components)


@dataclass(frozen=True)
class _Half:
    weight: float
    mean: Array
    variances: Array
    frames: _Frames
    origin: int  # Number of the component that it is a part of.


def divide(
    mixture: GaussianMixture,
    sample: _Frames,
    components: int,
    *,
    floor: float = 0.0,
    threads: int = 1,
) -> GaussianMixture:
    """Divide components in two, one after the other, always the one that gains most.

    Each frame of the sample belongs to its most likely component. A component's frames are divided
    by two-means, which begins on both sides of the mean, along the principal axis or along the
    coordinate with the lowest kurtosis, whichever gains more; distances are in standard deviations
    of the component. The halves may be divided further.

    Parameters
    ----------
    mixture : GaussianMixture
        Mixture of C components with diagonal covariances.
    sample : ndarray, shape (N, D)
        Random frames. Their order only matters to the rounding of sums.
    components : int
        Number of components of the result, at least C.
    floor : float
        Lower bound of the halves' variances, relative to the ``variance_control``.
    threads : int
        Number of threads. The result does not depend on it.

    Returns
    -------
    GaussianMixture
        Components that have no structure in the sample stay whole: all frames alike, or too few.
        If there are no others left, the heaviest are divided with `gmmcore.core.initial.split`.

    Raises
    ------
    ValueError
        If the mixture has full covariances or more components than wanted.

    Notes
    -----
    A division of n frames into n_1 and n_2 has the gain (n log|S| - n_1 log|S_1| - n_2 log|S_2|)/2
    with diagonal covariances S: the growth of the likelihood of frames that are assigned to one
    component each (Scott and Symons, Biometrics 27, 1971), without the share of the weights,
    which would prefer components with few frames wherever frames overlap. To divide the one that
    gains most is known from bisecting k-means (Steinbach, Karypis and Kumar, 2000), a low kurtosis
    as a sign of two clusters from projection pursuit (Pena and Prieto, JASA 96, 2001).

    Examples
    --------
    >>> import numpy as np
    >>> from gmmcore import GaussianMixture
    >>> from gmmcore.core.divide import divide
    >>> frames = np.repeat([[-3.0], [3.0]], 50, axis=0) + np.linspace(-1, 1, 100)[:, np.newaxis]
    >>> divide(GaussianMixture.from_covariances([1.0], [[0.0]], [[9.0]]), frames, 2).means.round(1)
    array([[-3.5],
           [ 3.5]])
    """
    if mixture.is_full or components < mixture.components:
        raise ValueError(f"{mixture.components} components cannot be divided to {components}")
    control = mixture.variance_control
    least = np.zeros_like(mixture.means) if control is None else floor * control
    labels = _most_likely(mixture, sample, threads)
    order = np.argsort(labels, kind="stable")
    edges = np.searchsorted(labels[order], np.arange(mixture.components + 1))
    variances = mixture.covariances
    parts = [
        _Half(mixture.weights[i], mixture.means[i], variances[i], sample[order[first:last]], i)
        for i, (first, last) in enumerate(pairwise(edges))
    ]
    # The gain decides; of equal gains, the first part.
    heap: list[tuple[float, int, tuple[_Half, _Half]]] = []
    with single_blas():

        def work(part: _Half) -> tuple[float, tuple[_Half, _Half]] | None:
            return _halves(part, least[part.origin])

        for number, found in enumerate(threads_map(threads)(work, tuple(parts))):
            if found is not None:
                heapq.heappush(heap, (-found[0], number, found[1]))
        while heap and len(parts) < components:
            _, number, halves = heapq.heappop(heap)
            parts[number] = halves[0]
            parts.append(halves[1])
            if len(parts) == components:
                break
            for place, half in zip((number, len(parts) - 1), halves, strict=True):
                found = work(half)
                if found is not None:
                    heapq.heappush(heap, (-found[0], place, found[1]))
    return _completed(mixture, parts, components)


def _most_likely(mixture: GaussianMixture, sample: _Frames, threads: int) -> npt.NDArray[np.intp]:
    """Return the most likely component of each frame."""

    def work(start: int) -> npt.NDArray[np.intp]:
        logs = component_log_likelihoods(mixture, sample[start : start + _BLOCK])
        return np.asarray(logs.argmax(axis=1))

    with single_blas():
        found = list(threads_map(threads)(work, range(0, len(sample), _BLOCK)))
    return np.concatenate([np.empty(0, np.intp), *found])


def _halves(part: _Half, least: Array) -> tuple[float, tuple[_Half, _Half]] | None:
    """Divide the frames of a component; return the gain and the halves, None if it is not possible.

    `least` are the smallest variances (D,).
    """
    count = len(part.frames)
    if count < 2 * _LEAST_FRAMES:
        return None
    deviations = np.sqrt(part.variances)
    # In the frames' own precision: it decides no more than where iterations begin.
    kind = part.frames.dtype
    origin = part.mean.astype(kind)
    scaled = part.frames - origin
    scaled /= deviations.astype(kind)
    np.clip(scaled, -_FARTHEST, _FARTHEST, out=scaled)
    middle: Array = scaled.mean(axis=0)
    scaled -= middle
    squares = scaled * scaled
    total = squares.sum(axis=0).astype(float)
    whole = total / count
    smallest = np.maximum(least / part.variances, 1e-12)
    before = 0.5 * count * float(np.log(np.maximum(whole, smallest)).sum())
    best: tuple[float, npt.NDArray[np.bool_], list[tuple[float, Array, Array]]] | None = None
    for axis in _axes(scaled, squares, whole):
        found = _two_means(scaled, axis)
        if found is None:
            continue
        upper, first = found
        second = (upper.astype(scaled.dtype) @ squares).astype(float)
        gain = before
        halves: list[tuple[float, Array, Array]] = []
        size = np.count_nonzero(upper)
        # What the upper half lacks of all is the lower half's.
        for number, sums, own in ((count - size, -first, total - second), (size, first, second)):
            centre = sums / number
            scatter = np.maximum(own - sums * centre, 0.0)
            variances: Array = (scatter + _PRIOR_FRAMES * whole) / (number + _PRIOR_FRAMES)
            variances = np.maximum(variances, smallest)
            gain -= 0.5 * number * float(np.log(variances).sum())
            halves.append((number / count, centre, variances))
        # Both axes may lead to the same halves, with gains that differ by rounding.
        if best is None or gain > best[0] + _ROUNDING * abs(best[0]):
            best = gain, upper, halves
    if best is None:
        return None
    lower, upper_half = (
        _Half(
            part.weight * share,
            origin + deviations * (middle + centre),
            part.variances * variances,
            part.frames[chosen],
            part.origin,
        )
        for chosen, (share, centre, variances) in zip((~best[1], best[1]), best[2], strict=True)
    )
    return best[0], (lower, upper_half)


def _axes(scaled: _Frames, squares: _Frames, variances: Array) -> Iterator[Array]:
    """Yield the directions that may divide centred frames (N, D), to the mean of a half."""
    axis, variance = _principal(scaled.T @ scaled / len(scaled))
    # An axis's sign is arbitrary; the first large coordinate is made positive: in two dimensions,
    # both are equally large. The means of the halves of a Gaussian lie 0.8 standard deviations from
    # its mean.
    sizes = np.abs(axis)
    sign = np.sign(axis[(sizes > 0.9 * sizes.max()).argmax()])
    yield axis * (sign * 0.8 * np.sqrt(variance))
    # Two clusters of about the same size give a coordinate a low kurtosis.
    fourth = np.einsum("ij,ij->j", squares, squares) / len(scaled)
    varies = variances > 1e-12
    best = int(np.where(varies, fourth / np.where(varies, variances, 1.0) ** 2, np.inf).argmin())
    axis = np.zeros(scaled.shape[1])
    axis[best] = 0.8 * np.sqrt(variances[best])
    yield axis


def _principal(covariance: _Frames) -> tuple[Array, float]:
    """Return the axis of largest variance and the variance, of a covariance matrix (D, D).

    The matrix is squared a few times, which takes a third of an eigendecomposition's time; axes
    whose variances differ by a hundredth may still be mixed, which two-means does not mind.
    """
    power = covariance
    for _ in range(_SQUARINGS):
        trace = np.trace(power)
        if not trace > 0:
            return np.zeros(len(covariance)), 0.0
        power = power / trace
        power = power @ power
    axis = power[np.diag(power).argmax()].astype(float)
    axis /= max(float(np.sqrt(axis @ axis)), 1e-300)
    return axis, max(float(axis @ covariance @ axis), 0.0)


def _two_means(scaled: _Frames, axis: Array) -> tuple[npt.NDArray[np.bool_], Array] | None:
    """Divide centred frames in two.

    Returns which of them belong to the upper half, and the sum of these, which is that of the lower
    half with the other sign; None if a half is empty.
    """
    count = len(scaled)
    upper_centre, lower_centre = axis, -axis
    for _ in range(_REFINEMENTS + 1):
        step = upper_centre - lower_centre
        middle = 0.5 * float((upper_centre + lower_centre) @ step)
        upper = scaled @ step.astype(scaled.dtype) > middle
        size = np.count_nonzero(upper)
        if not _LEAST_FRAMES <= size <= count - _LEAST_FRAMES:
            return None
        sums = (upper.astype(scaled.dtype) @ scaled).astype(float)
        upper_centre, lower_centre = sums / size, -sums / (count - size)
    return upper, sums


def _completed(mixture: GaussianMixture, parts: list[_Half], components: int) -> GaussianMixture:
    """Make a mixture of the parts; divide the heaviest ones if there are too few."""
    weights = np.array([part.weight for part in parts])
    control = mixture.variance_control
    result = GaussianMixture(
        weights / weights.sum(),
        np.array([part.mean for part in parts]),
        covariance_to_precision(np.array([part.variances for part in parts])),
        None if control is None else control[[part.origin for part in parts]],
    )
    while result.components < components:
        result = split(result, min(components, 2 * result.components))
    return result
