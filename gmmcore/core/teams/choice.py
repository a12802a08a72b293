"""Which team computes a stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gmmcore.core.costs import useful_workers
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.teams.base import Team, Work
from gmmcore.core.teams.processes import Processes, can_fork
from gmmcore.core.teams.threads import Threads

__all__ = ["local_team"]


@contextmanager
def local_team(work: Work, mixture: GaussianMixture, level: int, cores: int) -> Iterator[Team]:
    """Make a team on this machine, with as many workers as pay.

    Parameters
    ----------
    work : Work
    mixture : GaussianMixture
        The first mixture of the stage.
    level : int
        Level of the largest subset of the frames that is worth sharing.
    cores : int
        Largest number of workers.
    """
    workers = useful_workers(
        work.frames(level).frames,
        mixture.components,
        mixture.dimension,
        full=mixture.is_full,
        most=cores,
    )
    if work.device != "cpu":
        yield Threads(work, cores)  # They make the M-step.
        return
    if workers == 1 or not can_fork():
        yield Threads(work, workers)
        return
    team = Processes(work, workers, mixture)
    try:
        yield team
    finally:
        team.close()
