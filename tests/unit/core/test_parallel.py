"""Whoever computes the sums of parts, the bits are the same, and what goes wrong is told."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import threadpoolctl

from gmmcore import GaussianMixture
from gmmcore.core.estep import (
    ESteps,
    accumulate,
    log_likelihood,
    log_likelihood_over,
    parts,
    statistics_over,
    sums_under,
)
from gmmcore.core.frames import ArraySource
from gmmcore.core.kinds import to_kind
from gmmcore.core.mstep import maximise
from gmmcore.core.parallel import arithmetic, blas, processes_map, threads_map
from gmmcore.core.settings import FullMStep, MStep
from gmmcore.core.sums import Statistics
from gmmcore.errors import GmmcoreError

RNG = np.random.default_rng(1)
FRAMES = (3 * RNG.standard_normal((40, 5)))[RNG.integers(40, size=70_000)]
FRAMES = (FRAMES + RNG.standard_normal(FRAMES.shape)).astype("f")
MAPS = [threads_map, processes_map]


def mixture_of(components: int, full: bool) -> GaussianMixture:
    means = FRAMES[:components].astype(float)
    variances = np.ones_like(means)
    weights = np.full(components, 1 / components)
    mixture = GaussianMixture.from_covariances(weights, means, variances, variances * 9)
    return to_kind(mixture, "full") if full else mixture


def assert_same(one: Statistics, other: Statistics) -> None:
    for name in ("count", "first", "second", "origin"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
    assert (one.log_likelihood, one.frames) == (other.log_likelihood, other.frames)


@pytest.mark.parametrize("map_of", MAPS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("precision", "pruning"), [("double", 0.0), ("single", 2e-8)])
@pytest.mark.parametrize("components", [1, 9, 130])
def test_the_bits_are_those_of_map(components, precision, pruning, full, map_of):
    sums = sums_under(mixture_of(components, full), precision, pruning)
    for frames in (FRAMES, FRAMES[:5000], FRAMES[:1], FRAMES[:0]):
        chosen = parts(ArraySource(frames))
        expected = statistics_over(sums, chosen, map)
        outside = log_likelihood_over(sums, chosen, map)
        for workers in (1, 2, 3, 5):
            assert_same(statistics_over(sums, chosen, map_of(workers)), expected)
            assert log_likelihood_over(sums, chosen, map_of(workers)) == outside


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("map_of", MAPS)
def test_a_training_has_the_bits_of_one_worker(full, map_of):
    levels = [FRAMES, FRAMES[:5000], FRAMES[:1], FRAMES[:0]]
    outside = [FRAMES[:30_000], FRAMES[:5]]
    steps = ESteps(
        lambda level: ArraySource(levels[level]),
        precision="single",
        pruning=2e-8,
        workers=3,
        map_of=map_of,
        held_out=lambda level: ArraySource(outside[level % 2]),
    )
    current = mixture_of(130, full)
    settings = FullMStep() if full else MStep()
    for level in (1, 2, 3, 0, 1):
        expected = accumulate(current, levels[level], precision="single", pruning=2e-8)
        found = steps.statistics(current, level)
        assert_same(found, expected)
        held_out = log_likelihood(current, outside[level % 2], precision="single")
        assert steps.held_out(current, level) == held_out / len(outside[level % 2])
        if level < 2:
            current = maximise(current, found, settings).mixture


def test_nothing_is_held_out():
    steps = ESteps(lambda _: ArraySource(FRAMES), precision="single", pruning=0.0)
    assert np.isnan(steps.held_out(mixture_of(9, False), 0))


def test_components_may_be_removed_and_precision_raised():
    steps = ESteps(
        lambda _: ArraySource(FRAMES),
        precision="single",
        pruning=2e-8,
        workers=2,
        map_of=processes_map,
    )
    first = mixture_of(130, False)
    # Variances so small that single precision has too few digits for them.
    narrow = GaussianMixture(first.weights, first.means, first.precisions * 1e8)
    for mixture in (first, mixture_of(64, False), mixture_of(1, False), narrow):
        expected = accumulate(mixture, FRAMES, precision="single", pruning=2e-8)
        assert_same(steps.statistics(mixture, 0), expected)


@pytest.mark.parametrize(("frames", "workers"), [(100, 1), (20_000, 1), (70_000, 4)])
def test_small_subsets_get_as_many_workers_as_pay(frames, workers):
    asked = []

    def map_of(workers):
        asked.append(workers)
        return map

    steps = ESteps(
        lambda _: ArraySource(FRAMES[:frames]),
        precision="single",
        pruning=0.0,
        workers=7,
        map_of=map_of,
    )
    steps.statistics(mixture_of(130, True), 0)
    assert asked == [workers]


def test_there_are_no_more_workers_than_parts():
    asked = []

    def map_of(workers):
        asked.append(workers)
        return map

    steps = ESteps(
        lambda _: ArraySource(FRAMES[:3000]),
        precision="double",
        pruning=0.0,
        workers=8,
        map_of=map_of,
    )
    steps.statistics(mixture_of(4000, True), 0)
    assert asked == [2]


@pytest.mark.parametrize("pruning", [0.0, 2e-8])
def test_any_map_may_call_workers_that_have_no_frames(pruning):
    """A pickled part takes its frames along, so that workers may be anywhere."""
    mixture = mixture_of(130, True)
    sums = sums_under(mixture, "single", pruning)
    chosen = parts(ArraySource(FRAMES[:9000]))
    expected = statistics_over(sums, chosen, map)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        assert_same(statistics_over(sums, chosen, pool.map), expected)
        outside = log_likelihood_over(sums, chosen, pool.map)
        assert outside == log_likelihood_over(sums, chosen, map)


def test_a_pickled_part_is_the_same_part():
    part = parts(ArraySource(FRAMES))[3]
    part.kept = {"layout": "frames on a GPU"}
    copy = pickle.loads(pickle.dumps(part))  # noqa: S301
    assert (copy.frames, copy.dimension, copy.offset) == (part.frames, 5, part.offset)
    assert copy.kept == {}
    np.testing.assert_array_equal(copy.read(5, 90), FRAMES[part.offset + 5 : part.offset + 90])
    frames = FRAMES[:9000].copy()
    frames[5000, 1] = np.inf
    bad = pickle.loads(pickle.dumps(parts(ArraySource(frames))[2]))  # noqa: S301
    with pytest.raises(FloatingPointError, match="frames 4096 to 6144 is not finite"):
        sums_under(mixture_of(9, False), "double", 0.0).over(bad)


@pytest.mark.parametrize("map_of", MAPS)
def test_results_come_in_the_order_of_the_items(map_of):
    def late(item: int) -> int:
        time.sleep(0.02 * (item % 3 == 0))
        return item * item

    assert list(map_of(3)(late, range(30))) == [i * i for i in range(30)]
    assert list(map_of(3)(late, [])) == []


@pytest.mark.parametrize("map_of", MAPS)
@pytest.mark.parametrize("error", [GmmcoreError("x.npy: damaged"), MemoryError(), ValueError("a")])
def test_what_a_worker_raises_is_raised(error, map_of):
    class Broken(ArraySource):
        def read(self, start, stop):
            if start >= 40_000:
                raise error
            return super().read(start, stop)

    sums = sums_under(mixture_of(9, False), "double", 0.0)
    with pytest.raises(type(error), match=str(error) or None):
        statistics_over(sums, parts(Broken(FRAMES)), map_of(2))


@pytest.mark.parametrize("map_of", MAPS)
def test_frames_that_are_not_finite_are_named(map_of):
    frames = FRAMES.copy()
    frames[41_000, 2] = np.nan
    sums = sums_under(mixture_of(9, False), "double", 0.0)
    with pytest.raises(FloatingPointError, match=r"frames 40960 to 43008 is not finite"):
        statistics_over(sums, parts(ArraySource(frames)), map_of(2))


def test_frames_of_another_dimension_are_refused():
    with pytest.raises(GmmcoreError, match="dimension 4, the mixture has 5"):
        accumulate(mixture_of(9, False), FRAMES[:, :4])


def stopped_by(number: int):
    """Return a function that a worker calls, which gets a signal at the tenth item."""

    def work(item: int) -> int:
        if item == 10:
            os.kill(os.getpid(), number)
        return item

    return work


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_is_killed_is_told_in_one_line(number):
    with pytest.raises(GmmcoreError, match="process was killed; it may have met a limit") as at:
        list(processes_map(2)(stopped_by(number), range(40)))
    assert "\n" not in str(at.value)
    assert multiprocessing.active_children() == []


def test_workers_leave_an_interruption_to_the_process_that_leads():
    assert list(processes_map(2)(stopped_by(signal.SIGINT), range(40))) == list(range(40))


def test_an_interruption_ends_the_work_and_the_workers():
    leader = os.getpid()

    def work(item: int) -> int:
        if item == 10:
            os.kill(leader, signal.SIGINT)
        time.sleep(0.01)
        return item

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(processes_map(2)(work, range(10_000)))
    assert time.monotonic() - start < 20
    assert multiprocessing.active_children() == []


def test_processes_that_cannot_be_started_are_told_in_one_line(monkeypatch):
    started = []
    real = multiprocessing.context.ForkProcess.start

    def start(self):
        if started:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.append(self)
        real(self)

    monkeypatch.setattr(multiprocessing.context.ForkProcess, "start", start)
    with pytest.raises(GmmcoreError, match="3 worker processes cannot be started: Resource temp"):
        list(processes_map(3)(abs, range(9)))
    started[0].join(10)
    assert not started[0].is_alive()


def test_who_stops_to_ask_for_results_leaves_no_worker():
    results = iter(processes_map(2)(abs, range(10_000)))
    assert next(results) == 0
    results.close()
    assert multiprocessing.active_children() == []


ABANDONED = """
import os, sys, time
from gmmcore.core.parallel import processes_map

def work(item):
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(60)

list(processes_map(3)(work, range(3)))
"""


def test_workers_end_with_the_process_that_leads():
    command = [sys.executable, "-c", ABANDONED]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        workers = {int(process.stdout.readline()) for _ in range(3)}
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


SCRIPT = """
import hashlib
import numpy as np
from gmmcore.core.mstep import maximise
from gmmcore.core.kinds import to_kind
from gmmcore.core.settings import MStep
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.estep import accumulate

rng = np.random.default_rng(0)
frames = rng.standard_normal((40_000, 24), dtype=np.float32)
means = rng.standard_normal((128, 24))
mixture = GaussianMixture(np.full(128, 1 / 128), means, np.ones((128, 24)))
digest = hashlib.sha256()
for one in (mixture, to_kind(mixture, "full")):
    for precision in ("single", "double"):
        statistics = accumulate(one, frames, precision=precision, threads={threads})
        digest.update(statistics.second.tobytes() + statistics.count.tobytes())
        # Some components within the bounds and some beyond.
        settings = MStep(floor=0.4 if one.is_full else 0.6)
        update = maximise(one, statistics, settings, threads={threads})
        assert 0 < update.floored < 128 * 12
        digest.update(update.mixture.means.tobytes() + update.mixture.precisions.tobytes())
print(digest.hexdigest())
"""


def digest(threads: int, blas: str | None) -> str:
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    environment = {key: value for key, value in os.environ.items() if key not in names}
    if blas is not None:
        environment |= dict.fromkeys(names, blas)
    script = SCRIPT.replace("{threads}", str(threads))
    command = [sys.executable, "-c", script]
    return subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.slow
def test_threads_of_blas_do_not_matter():
    one = digest(1, "1")
    assert len(one) == 65
    assert digest(1, None) == one
    assert digest(2, "4") == one


LATE = """
import os
import numpy
from threadpoolctl import threadpool_info, threadpool_limits
os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
from gmmcore.core.parallel import single_blas
def threads():
    return [library["num_threads"] for library in threadpool_info()]
threadpool_limits(2, "blas")
with single_blas():
    print(threads())
print(threads())
"""


def test_blas_is_asked_for_its_threads_not_the_environment():
    command = [sys.executable, "-c", LATE]
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    environment = {key: value for key, value in os.environ.items() if key not in names}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[1]\n[2]\n", "")


def test_an_interruption_while_the_libraries_are_looked_up_is_not_lost(monkeypatch):
    class Controller:
        def __init__(self):
            with contextlib.suppress(KeyboardInterrupt):  # as a callback of the C library does
                signal.raise_signal(signal.SIGINT)

        def select(self, **_):
            return self

    monkeypatch.setattr(threadpoolctl, "ThreadpoolController", Controller)
    with pytest.raises(KeyboardInterrupt):
        blas.__wrapped__()


@pytest.mark.parametrize("first", ["numpy", "scipy.linalg", "scipy.linalg, h5py"])
def test_what_computes_does_not_depend_on_what_is_loaded(first):
    script = f"import {first}; from gmmcore.core.parallel import arithmetic; print(arithmetic())"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.stdout.strip() == arithmetic()
    assert found.stdout.startswith(f"numpy {np.__version__}")
