"""Trainings in one process, over any source of frames, with the same steps as the workflow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from gmmcore.core.describe import outliers, too_few
from gmmcore.core.divide import divided
from gmmcore.core.em import iterations
from gmmcore.core.estep import ESteps
from gmmcore.core.frames import ArraySource, FrameSource, Slice, as_source, weights_of
from gmmcore.core.history import HistoryEntry
from gmmcore.core.initial import (
    constant_dimensions,
    controlled,
    named,
    one_gaussian,
    outlying,
    robust_variances,
)
from gmmcore.core.kinds import to_kind
from gmmcore.core.mixture import GaussianMixture, InvalidMixtureError
from gmmcore.core.moments import Moments, merge_moments
from gmmcore.core.mstep import maximise
from gmmcore.core.parallel import Map, threads_map
from gmmcore.core.schedule import (
    Course,
    frame_levels,
    held_out_level,
    stages,
)
from gmmcore.core.settings import TrainingSettings
from gmmcore.errors import warn

Array = npt.NDArray[np.float64]
Report = Callable[[HistoryEntry, GaussianMixture], None]
_MOMENT_FRAMES = 8192


def moments(source: FrameSource) -> Moments:
    """Compute the moments of all frames of a source, block by block."""
    starts = range(0, source.frames, _MOMENT_FRAMES)
    ranges = [(start, min(start + _MOMENT_FRAMES, source.frames)) for start in starts]
    blocks = (Moments.of(source.read(*each), weights_of(source, *each)) for each in ranges)
    return merge_moments([Moments.none(source.dimension), *blocks])


class Subsets:
    """Random subsets of the frames of a source, each read into memory once; level 0 is the source.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmcore.core.frames import ArraySource
    >>> from gmmcore.core.train import Subsets
    >>> Subsets(ArraySource(np.zeros((1000, 2))), seed=1).of(3).frames
    131
    """

    def __init__(self, source: FrameSource, seed: int) -> None:
        self._seed = seed
        self._known = {0: source}

    def of(self, level: int) -> FrameSource:
        """Return the subset of a level."""
        if level not in self._known:
            source, size = self._known[0], _MOMENT_FRAMES
            chosen = self._levels >= level
            parts = [
                source.read(start, min(start + size, source.frames))[chosen[start : start + size]]
                for start in range(0, source.frames, size)
            ]
            weights = weights_of(source, 0, source.frames)
            kept = None if weights is None else weights[chosen]
            self._known[level] = ArraySource(np.concatenate(parts), kept)
        return self._known[level]

    @cached_property
    def _levels(self) -> npt.NDArray[np.int8]:
        return frame_levels(self._seed, "", self._known[0].frames).astype(np.int8)


def iterate(
    mixture: GaussianMixture,
    source: FrameSource | Subsets,
    course: Course,
    settings: TrainingSettings,
    report: Report | None = None,
    held_out: Subsets | None = None,
    map_of: Callable[[int], Map] = threads_map,
) -> tuple[GaussianMixture, list[HistoryEntry]]:
    """Make the iterations of a stage over one source of frames, or subsets of it.

    `report` is called after each iteration with its history entry and mixture. Of `held_out`
    frames, the log-likelihood is computed; iterations on a subset of the frames read a subset of
    these, too. The result is the last mixture of the stage, and the entries of its iterations.
    """
    subsets = source if isinstance(source, Subsets) else Subsets(source, settings.seed)

    def outside(level: int) -> FrameSource:
        assert held_out is not None
        return held_out.of(held_out_level(level, held_out.of(0).frames))

    steps = ESteps(
        subsets.of,
        precision=settings.precision,
        pruning=settings.pruning,
        device=settings.device,
        workers=settings.threads,
        map_of=map_of,
        held_out=None if held_out is None else outside,
    )
    if mixture.variance_control is None:  # The frames are read once more only then.
        mixture = controlled(mixture, *_overall(subsets, settings))
    step = settings.full if mixture.is_full else settings.diag
    history: list[HistoryEntry] = []
    for entry, update in iterations(
        mixture,
        steps.statistics,
        partial(maximise, settings=step, threads=settings.threads),
        course.after,
        held_out=steps.held_out,
    ):
        mixture = update.mixture
        history.append(entry)
        if report is not None:
            report(entry, mixture)
    return mixture, history


def train(
    source: FrameSource | npt.ArrayLike,
    components: int,
    iterations: Sequence[int] | None = None,
    full_iterations: int = 0,
    settings: TrainingSettings | None = None,
    *,
    kind: str | None = None,
    start: GaussianMixture | None = None,
    report: Report | None = None,
    before_split: Callable[[GaussianMixture], None] | None = None,
    held_out: FrameSource | None = None,
    map_of: Callable[[int], Map] = threads_map,
) -> tuple[GaussianMixture, list[HistoryEntry]]:
    """Train a mixture by splitting and EM, at the end with full covariances if wanted.

    `iterations`, `full_iterations` and `kind`, that of the final covariances, give the stages, as
    in `gmmcore.core.schedule.stages`.
    Without `start`, the training starts from the Gaussian of all frames. `report` is called after
    each iteration with its history entry and mixture, `before_split` with the mixture before each
    split. The result is the final mixture, and the entries of all iterations.

    Examples
    --------
    >>> from gmmcore.core.train import train
    >>> frames = [[-3.0], [-2.0], [-1.0], [1.0], [2.0], [3.0]] * 10
    >>> mixture, history = train(frames, components=2, iterations=[20])
    >>> mixture.means.round(1)
    array([[-2.],
           [ 2.]])
    """
    frames = as_source(source)
    if start is not None and start.dimension != frames.dimension:
        raise InvalidMixtureError(
            f"the mixture to start from has dimension {start.dimension}, the frames have dimension "
            f"{frames.dimension}; choose other frames or another mixture"
        )
    if line := too_few(frames.frames, components):
        raise InvalidMixtureError(line)
    settings = settings or TrainingSettings()
    subsets = Subsets(frames, settings.seed)
    mixture = one_gaussian(*_overall(subsets, settings)) if start is None else start
    history: list[HistoryEntry] = []
    outside = None if held_out is None else Subsets(held_out, settings.seed)
    plan = stages(
        components,
        iterations,
        full_iterations,
        kind=kind,
        start=mixture.components,
        start_full=mixture.is_full,
    )
    for stage in plan:
        if stage.origin == "split":
            if before_split is not None:
                before_split(mixture)
            mixture = divided(
                mixture,
                stage.components,
                subsets.of,
                settings.diag,
                method=settings.method,
                threads=settings.threads,
            )
        mixture = to_kind(mixture, stage.kind)
        course = Course.of(
            stage,
            llk_gain=settings.llk_gain,
            frames=frames.frames,
            dimension=frames.dimension,
            frames_per_component=settings.frames_per_component,
            last_iterations=settings.last_iterations,
            last_gain=settings.last_gain,
        )
        mixture, entries = iterate(mixture, subsets, course, settings, report, outside, map_of)
        history += entries
    return mixture, history


def _overall(subsets: Subsets, settings: TrainingSettings) -> tuple[Moments, Array | float]:
    """Return the moments of all frames and their robust variances; warn of odd dimensions."""
    found, robust = moments(subsets.of(0)), robust_variances(subsets.of)
    if (constant := constant_dimensions(found)).any():
        warn(
            f"every frame has the same value in dimension {named(constant)} (counted from 0), "
            "so that it distinguishes no components; leave it out"
        )
    warn(outliers([(at, "") for at in outlying(subsets.of, found)], found.count))
    return found, robust if settings.robust else np.inf


def uniform_start(source: FrameSource | npt.ArrayLike, components: int) -> GaussianMixture:
    """Make one component of equal weight from each of `components` equal slices of the frames.

    Each component has the mean and the variances of its slice. The ``variance_control`` is the
    variance of all frames, which also replaces variances that are almost zero.

    Raises
    ------
    ValueError
        If there are fewer than two frames per component.
    """
    frames = as_source(source)
    overall = one_gaussian(moments(frames))
    if frames.frames < 2 * components:
        raise ValueError(f"{frames.frames} frames are too few for {components} components")
    control = np.repeat(overall.covariances, components, axis=0)
    means = np.empty((components, frames.dimension))
    variances = np.empty_like(means)
    edges = np.linspace(0, frames.frames, components + 1).astype(int)
    for component, (first, last) in enumerate(pairwise(edges)):
        found = moments(Slice(frames, int(first), int(last)))
        means[component] = found.mean
        variances[component] = found.scatter / found.count
    variances = np.where(variances > 1e-6 * control, variances, control)
    weights = np.full(components, 1.0 / components)
    return GaussianMixture.from_covariances(weights, means, variances, control)
