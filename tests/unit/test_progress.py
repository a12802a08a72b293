"""What a training tells while it runs: lines of iterations, and one on a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
from dataclasses import replace
from math import nan

import numpy as np
import pytest

from gmmcore import GaussianMixture
from gmmcore.core import estep
from gmmcore.core.frames import ArraySource
from gmmcore.core.history import HistoryEntry
from gmmcore.core.mstep import Update
from gmmcore.core.parallel import processes_map, threads_map
from gmmcore.workflow.stage import duration, log_line, progress_line

MIXTURE = GaussianMixture.from_covariances([0.5, 0.5], [[-1.0], [1.0]], [[1.0], [1.0]])
ENTRY = HistoryEntry("diag", 64, 3, 1, 50_000, -33.7, 0.5, 0, 0, 0, 80.0)
UPDATE = Update(MIXTURE, 0, 0, (), 80.0)


@pytest.mark.parametrize(
    ("entry", "low_count"),
    [
        (ENTRY, ()),
        (replace(ENTRY, gain=nan, level=0, held_out=-34.0), ()),
        (replace(ENTRY, floored=3, low_count=2), ((4, 0.5), (9, 1.5))),
    ],
)
def test_the_line_of_an_iteration_tells_its_time(entry, low_count):
    line = log_line(entry, replace(UPDATE, low_count=low_count), 1.25)
    assert "  1.25 s  40000 frames/s" in line
    other = log_line(replace(entry, iteration=4), UPDATE)
    assert "frames/s" not in other


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "less than 1 s"),
        (59.4, "59 s"),
        (59.5, "1 min"),
        (3569, "59 min"),
        (3571, "1 h"),
        (86_399, "1 d"),
        (86_400 * 3.5, "3 d 12 h"),
    ],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


@pytest.fixture
def terminal():
    """A terminal of 40 columns, and a function that returns what was written to it."""
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as stream, os.fdopen(leader, "rb", buffering=0) as reader:
        os.environ.setdefault("TERM", "xterm")

        def written() -> str:
            """What arrives until there is a pause: a terminal may pass it on in parts."""
            found, patience = b"", 5.0
            while select.select([reader], [], [], patience)[0]:
                found, patience = found + reader.read(4096), 0.2
            return found.decode()

        yield stream, written


def test_a_long_iteration_has_a_line_on_a_terminal(terminal):
    stream, written = terminal
    now = 0.0
    with progress_line(stream, lambda: "demo  iteration 3", lambda: now) as report:
        report(0, 100)
        now = 1.9
        report(10, 100)  # It is not known yet to be a long one.
        now = 5.0
        report(25, 100)
        now = 5.1
        report(26, 100)  # Too early for another line.
        now = 10.0
        report(100, 100)
    stream.write("end")
    stream.flush()
    assert written() == "\rdemo  iteration 3  25 %  15 s left\x1b[K\r\r\x1b[K\rend"


def test_a_short_iteration_has_none(terminal):
    stream, written = terminal
    with progress_line(stream, lambda: "label") as report:
        for done in range(0, 101, 10):
            report(done, 100)
    stream.write("end")
    stream.flush()
    assert written() == "end"


def test_a_line_is_removed_when_the_work_ends_early(terminal):
    stream, written = terminal
    now = 0.0
    with (
        pytest.raises(KeyboardInterrupt),
        progress_line(stream, lambda: "label", lambda: now) as report,
    ):
        report(0, 100)
        now = 3.0
        report(50, 100)
        raise KeyboardInterrupt
    assert re.fullmatch(r"\rlabel  50 %  .* left\x1b\[K\r\r\x1b\[K\r", written())


def test_files_and_absent_streams_have_no_line(tmp_path):
    with open(tmp_path / "log", "w") as stream, progress_line(stream, str) as line:
        assert line is None
    with progress_line(None, str) as line:
        assert line is None


@pytest.mark.parametrize("map_of", [threads_map, processes_map])
@pytest.mark.parametrize("workers", [1, 2])
def test_e_steps_report_each_part_that_is_done(map_of, workers, monkeypatch):
    monkeypatch.setattr(estep, "useful_workers", lambda *_, most, **__: most)
    frames = ArraySource(np.random.default_rng(1).standard_normal((50_000, 1)).astype("f"))
    told: list[tuple[int, int]] = []
    given = {"precision": "single", "pruning": 2e-8, "workers": workers, "map_of": map_of}
    steps = estep.ESteps(
        lambda _: frames,
        **given,
        held_out=lambda _: frames,
        report=lambda done, of: told.append((done, of)),
    )
    silent = estep.ESteps(lambda _: frames, **given)
    expected = [(done, 25) for done in range(26)]
    found = steps.statistics(MIXTURE, 0)
    assert found.count.tobytes() == silent.statistics(MIXTURE, 0).count.tobytes()
    assert told == expected
    told.clear()
    assert steps.held_out(MIXTURE, 0) == pytest.approx(found.log_likelihood_per_frame)
    assert told == expected
    told.clear()
    # A job has some of the parts.
    chosen = steps.parts(0)[3:7]
    assert len(list(steps.map(MIXTURE, chosen)(steps.sums(MIXTURE).over, chosen))) == 4
    assert told == [(done, 4) for done in range(5)]
