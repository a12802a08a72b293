"""Statistics of shows: the sums of order zero and one of each show, about zero."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.core.density import InvalidFramesError
from gmmcore.core.frames import ArraySource
from gmmcore.core.kinds import Array
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.parallel import single_blas, threads_map
from gmmcore.core.sums import Sums, checked
from gmmcore.errors import GmmcoreError


@dataclass(frozen=True, eq=False)
class OfShow:
    """What `ShowStatistics` has of each show, of one of them."""

    name: str
    frames: int
    count: Array
    first: Array
    log_likelihood: float


@dataclass(frozen=True, eq=False)
class ShowStatistics:
    """Baum-Welch statistics of shows.

    Attributes
    ----------
    names : list of str
        Names of the shows, in their order.
    frames : ndarray, shape (S,), int64
        Numbers of frames.
    count : ndarray, shape (S, C), float64
        Occupancies: sums of posteriors, in frames.
    first : ndarray, shape (S, C, D), float64
        Sums of posterior x frame, about zero.
    log_likelihood : ndarray, shape (S,), float64
        Sums of the frames' log-likelihoods (natural logarithm).
    """

    names: list[str]
    frames: npt.NDArray[np.int64]
    count: Array
    first: Array
    log_likelihood: Array


def accumulate_shows(
    mixture: GaussianMixture,
    shows: Iterable[tuple[str, npt.ArrayLike]],
    *,
    precision: str = "double",
    threads: int = 1,
) -> ShowStatistics:
    """Compute the Baum-Welch statistics of each show under a mixture.

    No bit of a show's statistics depends on the other shows, their order, or the threads.

    Parameters
    ----------
    mixture : GaussianMixture
    shows : iterable of (str, array_like)
        Names and frames (F, D) of shows, such as those of `read_shows`. Few shows are held at a
        time; the statistics take 8 C (D + 1) bytes for each show.
    precision : {'double', 'single'}
        Precision of the matrix products, as in `accumulate`.
    threads : int
        Number of threads.

    Returns
    -------
    ShowStatistics
        The occupancies and first-order sums of every show.

    Raises
    ------
    InvalidFramesError
        If the frames of a show have another dimension than the mixture, or are not real numbers.
    GmmcoreError
        If two shows have one name, or a frame is not finite or too far from the mixture.

    Examples
    --------
    >>> from gmmcore import GaussianMixture, accumulate_shows
    >>> mixture = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[10.0], [10.0]])
    >>> found = accumulate_shows(mixture, {"a": [[-2.0], [1.0]], "b": [[3.0]]}.items())
    >>> found.names, found.count.round(3).tolist(), found.first[:, :, 0].round(3).tolist()
    (['a', 'b'], [[1.0, 1.0], [0.0, 1.0]], [[-2.0, 1.0], [0.0, 3.0]])
    """
    found = [*each_show(mixture, shows, precision=precision, threads=threads)]
    components, dimension = mixture.components, mixture.dimension
    return ShowStatistics(
        [one.name for one in found],
        np.array([one.frames for one in found], np.int64),
        np.array([one.count for one in found]).reshape(-1, components),
        np.array([one.first for one in found]).reshape(-1, components, dimension),
        np.array([one.log_likelihood for one in found], np.float64),
    )


def each_show(
    mixture: GaussianMixture,
    shows: Iterable[tuple[str, npt.ArrayLike]],
    *,
    precision: str = "double",
    threads: int = 1,
) -> Iterator[OfShow]:
    """Yield the statistics of one show after the other, as `accumulate_shows` returns them."""
    sums = ShowSums(mixture, precision)
    with single_blas():
        yield from threads_map(threads)(lambda show: sums.of_show(*show), _distinct(shows))


def _distinct(shows: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    names: set[str] = set()
    for name, frames in shows:
        if name in names:
            raise GmmcoreError(f"show {name}: given twice; one array per show was expected; join")
        names.add(name)
        yield name, frames


class ShowSums(Sums):
    """Sums of posterior x [frame, 1], each show in blocks of its own."""

    def of_show(self, name: str, frames: npt.ArrayLike) -> OfShow:
        """Sum over the frames (F, D) of one show."""
        source = show_source(name, frames, self.dimension)
        total, likelihood = np.zeros((self.dimension + 1, self.components)), np.zeros(1)
        part = self.buffer("part", *total.shape)
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            for block, _ in self.blocks(source):
                products, densities, sums, log_likelihood = self.densities(block)
                # The last products of a frame are its coordinates and 1, whatever the kind.
                last = products[-len(total) :]
                last *= 1 / sums
                total += np.matmul(last, densities, out=part)
                likelihood += log_likelihood
        try:
            checked(likelihood, source)
        except FloatingPointError as error:
            raise GmmcoreError(f"show {name}: {error}") from None
        count = total[-1].copy()
        first = self.kind.first(total) + count[:, np.newaxis] * self.kind.origin
        return OfShow(name, source.frames, count, first, float(likelihood[0]))


def show_source(name: str, frames: npt.ArrayLike, dimension: int) -> ArraySource:
    """Return a show's frames as a source; an error names the show."""
    try:
        source = ArraySource(frames)
    except InvalidFramesError as error:
        raise InvalidFramesError(f"show {name}: {error}") from None
    if source.dimension != dimension:
        raise InvalidFramesError(
            f"show {name}: frames have dimension {source.dimension}, the mixture has {dimension}"
        )
    return source
