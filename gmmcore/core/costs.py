"""What an iteration costs, in seconds and megabytes, as far as one can tell beforehand."""

from __future__ import annotations

__all__ = ["LONG_SECONDS", "megabytes", "seconds", "useful_workers"]

# On one core of a processor of 2020, in single precision (docs/scaling.md measures them): what a
# frame costs by itself, and what an operation of the two matrix products does.
_SECONDS_PER_FRAME = 2e-7
_SECONDS_PER_OPERATION = 1e-11
# A worker pays if it has this long to do in an iteration: a message to it costs a hundredth of it.
_LEAST_SECONDS = 5e-3
LONG_SECONDS = 60
"""Seconds on one core from which a stage is worth a job of a cluster, or the start of a device."""


def seconds(frames: int, components: int, dimension: int, *, full: bool) -> float:
    """Estimate the seconds that an E-step takes on one core.

    Parameters
    ----------
    frames : int
        Number of frames that it reads.
    components, dimension : int
        Those of the mixture.
    full : bool
        Whether the covariances are full.

    Examples
    --------
    >>> from gmmcore.core.costs import seconds
    >>> round(seconds(1_000_000, 512, 60, full=False), 1)
    2.7
    """
    width = 1 + dimension + (dimension * (dimension + 1) // 2 if full else dimension)
    operations = 4 * components * width
    return frames * (_SECONDS_PER_FRAME + operations * _SECONDS_PER_OPERATION)


def useful_workers(
    frames: int,
    components: int,
    dimension: int,
    *,
    full: bool,
    most: int,
    least: float = _LEAST_SECONDS,
) -> int:
    """Choose how many workers an E-step is worth.

    Parameters
    ----------
    frames, components, dimension, full
        As those of `seconds`.
    most : int
        Largest number of workers.
    least : float
        Least number of seconds that each of them must have to do.

    Examples
    --------
    >>> from gmmcore.core.costs import useful_workers
    >>> [useful_workers(10_000, c, 60, full=False, most=16) for c in (2, 64, 512)]
    [1, 1, 5]
    """
    wanted = seconds(frames, components, dimension, full=full) / least
    return max(1, min(most, int(wanted)))


def megabytes(
    components: int,
    dimension: int,
    *,
    full: bool,
    workers: int = 1,
    kept: int = 0,
    devices: int = 0,
) -> int:
    """Estimate the megabytes that the iterations of a stage need.

    Parameters
    ----------
    components, dimension, full
        As those of `seconds`.
    workers : int
        Number of processes that share the job.
    kept : int
        Number of frames that are kept in memory.
    devices : int
        Number of graphics processors that the processes drive.

    Examples
    --------
    >>> from gmmcore.core.costs import megabytes
    >>> megabytes(2048, 60, full=True, workers=2)
    1443
    """
    size = 8 * components * dimension * (dimension if full else 1)
    bytes_ = 12 * size + workers * (50_000_000 + 2 * size) + 4 * dimension * kept
    return 400 + bytes_ // 1_000_000 + 3000 * devices
