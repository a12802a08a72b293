"""Worker processes give the bits of a single thread, and their end is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from gmmcore import GaussianMixture
from gmmcore.config.steps import FullMStep, MStep
from gmmcore.core.estep import Statistics, accumulate
from gmmcore.core.frames import ArraySource
from gmmcore.core.initial import to_full
from gmmcore.core.likelihood import LogLikelihood
from gmmcore.core.mstep import maximise
from gmmcore.core.teams.base import Work
from gmmcore.core.teams.choice import local_team
from gmmcore.core.teams.processes import Processes
from gmmcore.core.teams.threads import Threads
from gmmcore.errors import GmmcoreError

RNG = np.random.default_rng(1)
FRAMES = (3 * RNG.standard_normal((40, 5)))[RNG.integers(40, size=70_000)]
FRAMES = (FRAMES + RNG.standard_normal(FRAMES.shape)).astype("f")


def mixture_of(components: int, full: bool) -> GaussianMixture:
    means = FRAMES[:components].astype(float)
    variances = np.ones_like(means)
    weights = np.full(components, 1 / components)
    mixture = GaussianMixture.from_covariances(weights, means, variances, variances * 9)
    return to_full(mixture) if full else mixture


def assert_same(one: Statistics, other: Statistics) -> None:
    for name in ("count", "first", "second", "origin"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
    assert (one.log_likelihood, one.frames) == (other.log_likelihood, other.frames)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("precision", "pruning"), [("double", 0.0), ("single", 2e-8)])
@pytest.mark.parametrize("components", [1, 9, 130])
def test_the_bits_are_those_of_one_thread(components, precision, pruning, full):
    settings = FullMStep() if full else MStep()
    levels = [FRAMES, FRAMES[:5000], FRAMES[:1], FRAMES[:0]]
    work = Work(lambda level: ArraySource(levels[level]), precision, pruning)
    mixture = mixture_of(components, full)
    for workers in (1, 2, 3, 5):
        team = Processes(work, workers, mixture)
        try:
            current = mixture
            for level in (1, 2, 3, 0, 1):
                expected = accumulate(current, levels[level], precision=precision, pruning=pruning)
                found = team.statistics(current, level)
                assert_same(found, expected)
                if level < 2:
                    update = team.maximise(current, found, settings)
                    assert update == maximise(current, expected, settings)
                    current = update.mixture
        finally:
            team.close()


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("precision", ["double", "single"])
def test_held_out_frames_have_the_bits_of_one_thread(precision, full):
    levels = [FRAMES[:30_000], FRAMES[:5], FRAMES[:0]]
    training, outside = ArraySource(FRAMES), [ArraySource(frames) for frames in levels]
    work = Work(lambda _: training, precision, 2e-8, lambda level: outside[level])
    mixture = mixture_of(130, full)
    team = Processes(work, 3, mixture)
    try:
        for level, frames in enumerate(levels):
            expected = LogLikelihood(mixture, precision)(frames)
            assert team.held_out(mixture, level) == (expected, len(frames))
            assert Threads(work, 2).held_out(mixture, level) == (expected, len(frames))
            assert_same(team.statistics(mixture, 0), Threads(work, 1).statistics(mixture, 0))
    finally:
        team.close()


def test_components_may_be_removed_and_precision_raised():
    work = Work(lambda _: ArraySource(FRAMES), "single", 2e-8)
    first = mixture_of(130, False)
    team = Processes(work, 2, first)
    try:
        for components in (130, 64, 1):
            mixture = mixture_of(components, False)
            assert_same(team.statistics(mixture, 0), Threads(work, 1).statistics(mixture, 0))
        # Variances so small that single precision has too few digits for them.
        narrow = GaussianMixture(first.weights, first.means, first.precisions * 1e8)
        assert_same(team.statistics(narrow, 0), Threads(work, 1).statistics(narrow, 0))
    finally:
        team.close()


@pytest.fixture
def team():
    work = Work(lambda level: ArraySource(FRAMES), "single", 2e-8)
    made = Processes(work, 2, mixture_of(130, False))
    yield made
    made.close()


def test_a_worker_that_is_killed_is_told(team):
    mixture = mixture_of(130, False)
    team.statistics(mixture, 0)
    os.kill(team._workers[1].pid, signal.SIGKILL)
    with pytest.raises(
        GmmcoreError, match=r"worker process \d+ was killed by signal 9; it may hav"
    ):
        team.statistics(mixture, 0)


def test_workers_leave_an_interruption_to_the_process_that_leads(team):
    mixture = mixture_of(130, False)
    expected = team.statistics(mixture, 0)
    for worker in team._workers:
        os.kill(worker.pid, signal.SIGINT)
    assert_same(team.statistics(mixture, 0), expected)


@pytest.mark.parametrize("error", [GmmcoreError("x.npy: damaged"), MemoryError(), ValueError("a")])
def test_what_a_worker_raises_is_raised(error):
    class Broken(ArraySource):
        def read(self, start, stop):
            if start >= 40_000:
                raise error
            return super().read(start, stop)

    mixture = mixture_of(9, False)
    made = Processes(Work(lambda _: Broken(FRAMES), "double", 0.0), 2, mixture)
    try:
        expectation = made.work.expectation(mixture, 0, (False, False))
        with pytest.raises(type(error), match=str(error) or None):
            made.sums(expectation, 0)
    finally:
        made.close()


def test_frames_that_are_not_finite():
    frames = FRAMES.copy()
    frames[41_000, 2] = np.nan
    mixture = mixture_of(9, False)
    made = Processes(Work(lambda _: ArraySource(frames), "double", 0.0), 2, mixture)
    try:
        with pytest.raises(FloatingPointError, match=r"frames 40960 to 45056 is not finite"):
            made.statistics(mixture, 0)
    finally:
        made.close()


ABANDONED = """
import sys, time
sys.path.insert(0, {folder!r})
from test_processes import *
made = Processes(Work(lambda _: ArraySource(FRAMES), "single", 0.0), 3, mixture_of(9, False))
print(*(worker.pid for worker in made._workers), flush=True)
time.sleep(60)
"""


def test_workers_end_with_the_process_that_leads():
    program = ABANDONED.format(folder=os.path.dirname(__file__))
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        workers = [int(word) for word in process.stdout.readline().split()]
        assert len(workers) == 3
        process.kill()
    deadline = time.monotonic() + 30
    while any(is_running(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("frames", "cores", "kind"), [(100, 8, Threads), (70_000, 2, Processes)])
def test_small_stages_get_as_many_workers_as_pay(frames, cores, kind):
    work = Work(lambda _: ArraySource(FRAMES[:frames]), "double", 0.0)
    with local_team(work, mixture_of(130, False), 0, cores) as chosen:
        assert isinstance(chosen, kind)


def test_processes_that_cannot_be_started(monkeypatch):
    def refuse(self):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("multiprocessing.context.ForkProcess.start", refuse)
    work = Work(lambda _: ArraySource(FRAMES), "double", 0.0)
    with pytest.raises(GmmcoreError, match="worker process 1 of 2 cannot be started: Resource"):
        Processes(work, 2, mixture_of(9, False))
