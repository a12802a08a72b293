"""Measured times of iterations: what a stop, a copy or a first iteration does not mislead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gmmcore.core.costs import seconds
from gmmcore.core.history import HistoryEntry
from gmmcore.workflow.forecast import FrameCounts
from gmmcore.workflow.progress import pace
from gmmcore.workflow.runs import read_runs
from gmmcore.workflow.speed import measure

FRAMES, DIMENSION = 10_000_000, 60
COUNTS = FrameCounts.of_number(FRAMES, DIMENSION)
ESTIMATE = seconds(FRAMES, 4, DIMENSION, full=False)


@pytest.fixture
def run():
    values = {"run": "big", "components": 4, "iterations": [1, 5], "features": {"list": "x"}}
    return read_runs(values)["big"]


def entry(components: int, iteration: int, level: int = 0) -> HistoryEntry:
    frames = COUNTS.subsets[level]
    return HistoryEntry("diag", components, iteration, level, frames, -9, 1, 0, 0, 0, "", 9)


def written(folder: Path, components: int, times: list[float]) -> None:
    place = folder / f"results/big/diag/{components}"
    place.mkdir(parents=True)
    for number, time in enumerate(times):
        path = place / f"{number:03d}.h5"
        path.touch()
        os.utime(path, (time, time))


def test_times_of_files_tell_the_speed_and_a_stop_does_not_mislead(run, tmp_path):
    step = 3 * ESTIMATE
    times = [0.0, step, 2 * step, 2 * step + 86_400, 3 * step + 86_400, 4 * step + 86_400]
    written(tmp_path, 4, times)
    history = [entry(4, number) for number in range(1, 6)]
    speed = measure(run, f"{tmp_path}/results", history, COUNTS, 1)
    assert speed.predict(ESTIMATE) == pytest.approx(step)
    assert speed.predict(10 * ESTIMATE) == pytest.approx(10 * step)


def test_copied_iterations_have_no_speed(run, tmp_path):
    written(tmp_path, 4, [0.0, 0.01, 0.02])
    speed = measure(run, f"{tmp_path}/results", [entry(4, 1), entry(4, 2)], COUNTS, 1)
    assert speed.ratios == speed.extra == []
    assert speed.predict(ESTIMATE) == ESTIMATE


def test_logs_are_believed_before_files_and_small_iterations_take_longer(run, tmp_path):
    level = 7
    written(tmp_path, 2, [0.0, 100.0])
    written(tmp_path, 4, [105.0, 112.0])
    for components, taken in ((2, 0.4), (4, 2.0)):
        log = tmp_path / f"logs/big/diag/{components}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"big  diag  {components}  iteration  1  -9  {pace(9, taken)}  floored 1\n")
    history = [entry(2, 1, level), entry(4, 1, level)]
    speed = measure(run, f"{tmp_path}/results", history, COUNTS, 1)
    small = seconds(COUNTS.subsets[level], 4, DIMENSION, full=False)
    assert speed.predict(small) == pytest.approx(1.2, abs=0.1)  # The median of two.
    assert speed.predict(100.0) == 100.0  # Little is known of large ones.
    assert speed.between == [pytest.approx(112.0 - 100.0 - 2.0)]
