"""The numbers that a prediction needs, each measured on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.speeds.data import Frames
from gmmcore.config.steps import FullMStep, MStep
from gmmcore.core.estep import Expectation
from gmmcore.core.frames import ArraySource
from gmmcore.core.kernels import make_kernel
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.mstep import maximise
from gmmcore.core.threads import single_blas
from gmmcore.data.shards import BLOCK_FRAMES, Shard, ShardWriter, block_checksum
from gmmcore.files import writing

__all__ = ["Message", "Pieces", "Reading", "message", "pieces_of", "reading", "start"]

PRUNING = 2e-8


class Pieces(NamedTuple):
    """What the pieces of an iteration cost one worker.

    Attributes
    ----------
    seconds : ndarray
        Seconds per frame of each piece.
    block : int
        Least number of frames in a piece.
    size : int
        Bytes of the sums of a piece.
    prepare : float
        Seconds to make the coefficients of the mixture, once per iteration.
    finish : float
        Seconds of the M-step on one core.
    """

    seconds: npt.NDArray[np.float64]
    block: int
    size: int
    prepare: float
    finish: float


def pieces_of(mixture: GaussianMixture, frames: Frames, rounds: int) -> Pieces:
    """Time the pieces of the frames one by one; the best of the rounds for each."""
    source = ArraySource(frames)
    clock = time.perf_counter()
    expectation = Expectation(make_kernel(mixture, "single", PRUNING), source)
    prepare = time.perf_counter() - clock
    lengths = np.array([last - first for first, last in expectation.pieces])
    best = np.full(len(lengths), np.inf)
    with single_blas():
        for _ in range(rounds):
            for piece in range(len(lengths)):
                clock = time.perf_counter()
                expectation.sums(piece)
                best[piece] = min(best[piece], time.perf_counter() - clock)
    statistics = expectation.finish(expectation.tree().total)
    clock = time.perf_counter()
    maximise(mixture, statistics, FullMStep() if mixture.is_full else MStep())
    finish = time.perf_counter() - clock
    whole = lengths == lengths.min() if lengths[-1] == lengths[0] else lengths > lengths[-1]
    block = int(lengths[whole].min())
    return Pieces(best[whole] / lengths[whole], block, 8 * expectation.size, prepare, finish)


class Reading(NamedTuple):
    """Bytes per second of frames, from the system's cache.

    Attributes
    ----------
    whole : float
        Read and verified.
    verified : float
        Verified only.
    copied : float
        Copied from memory to memory, for comparison.
    """

    whole: float
    verified: float
    copied: float


def reading(frames: Frames) -> Reading:
    """Time how a shard is read block by block."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.npy"
        with writing(path) as stream, ShardWriter(stream, frames.shape[1]) as writer:
            writer.add(frames)
            writer.finish({"shard": "x", "recipe_digest": "", "faults": []})
        with Shard(path) as shard:
            whole = _best(lambda: sum(len(block) for block in shard.blocks()))
    blocks = [frames[i : i + BLOCK_FRAMES] for i in range(0, len(frames), BLOCK_FRAMES)]
    verified = _best(lambda: [block_checksum(block) for block in blocks])
    copied = _best(lambda: [block.copy() for block in blocks])
    return Reading(*(frames.nbytes / seconds for seconds in (whole, verified, copied)))


class Message(NamedTuple):
    """What a message between two ranks of this machine costs, and adding what it brings.

    Attributes
    ----------
    latency : float
        Seconds of an empty one.
    bandwidth : float
        Bytes per second.
    addition : float
        Bytes per second of sums that are added to others.
    """

    latency: float
    bandwidth: float
    addition: float


def message(launcher: str) -> Message:
    """Time messages between two ranks."""
    program = [sys.executable, "-m", "benchmarks.scalings.messages"]
    found = subprocess.run(
        [launcher, "-n", "2", *program], capture_output=True, text=True, check=True
    )
    return Message(**json.loads(found.stdout))


def start(launcher: str, ranks: int) -> float:
    """Time how long so many ranks take to start, to meet once, and to end."""
    program = "from mpi4py import MPI; import gmmcore.core.teams.ranks; MPI.COMM_WORLD.barrier()"
    command = [launcher, "-n", str(ranks), sys.executable, "-c", program]
    return _best(lambda: subprocess.run(command, check=True))


def _best(work: Callable[[], object], rounds: int = 5) -> float:
    best = np.inf
    for _ in range(rounds):
        clock = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - clock)
    return float(best)
