"""Results do not depend on the threads of the caller's BLAS, nor on its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import pytest
import threadpoolctl

from gmmcore.core.threads import blas, ordered_map

SCRIPT = """
import hashlib
import numpy as np
from gmmcore.core.mstep import maximise
from gmmcore.core.initial import to_full
from gmmcore.config.steps import MStep
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.estep import accumulate

rng = np.random.default_rng(0)
frames = rng.standard_normal((40_000, 24), dtype=np.float32)
means = rng.standard_normal((128, 24))
mixture = GaussianMixture(np.full(128, 1 / 128), means, np.ones((128, 24)))
digest = hashlib.sha256()
for one in (mixture, to_full(mixture)):
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
from gmmcore.core.threads import single_blas
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


def test_results_come_in_the_order_of_the_items():
    assert list(ordered_map(lambda item: item * item, range(20), 3)) == [i * i for i in range(20)]


def test_an_error_in_a_thread_is_raised():
    def work(item: int) -> int:
        if item == 5:
            raise ValueError("five")
        return item

    with pytest.raises(ValueError, match="five"):
        list(ordered_map(work, range(10), 2))
