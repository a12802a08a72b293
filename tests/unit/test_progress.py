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
from gmmcore.core.frames import ArraySource
from gmmcore.core.history import HistoryEntry
from gmmcore.core.mstep import Update
from gmmcore.core.teams.base import Work
from gmmcore.core.teams.processes import Processes
from gmmcore.core.teams.threads import Threads
from gmmcore.workflow.iteration import duration, log_line, progress_line

MIXTURE = GaussianMixture.from_covariances([0.5, 0.5], [[-1.0], [1.0]], [[1.0], [1.0]])
ENTRY = HistoryEntry("diag", 64, 3, 1, 50_000, -33.7, 0.5, 0, 0, 0, "", 80.0)
UPDATE = Update(MIXTURE, 0, 0, (), 80.0, held_out_gain=-0.01)


@pytest.mark.parametrize(
    ("entry", "low_count"),
    [
        (ENTRY, ()),
        (replace(ENTRY, gain=nan, level=0, held_out=-34.0), ()),
        (replace(ENTRY, step="dropped", held_out=-34.0), ()),
        (replace(ENTRY, floored=3, low_count=2, action="keep"), ((4, 0.5), (9, 1.5))),
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


@pytest.mark.parametrize("kind", [Threads, Processes])
def test_a_team_reports_all_frames_it_reads(kind):
    frames = np.random.default_rng(1).standard_normal((50_000, 1)).astype("f")
    work = Work(lambda level: ArraySource(frames), "single", 2e-8, lambda _: ArraySource(frames))
    team = Threads(work, 2) if kind is Threads else Processes(work, 2, MIXTURE)
    told: list[tuple[int, int]] = []
    try:
        silent = team.statistics(MIXTURE, 0)
        team.report = lambda done, of: told.append((done, of))
        assert team.statistics(MIXTURE, 0).count.tobytes() == silent.count.tobytes()
        assert told[0] == (0, 50_000)
        assert told[-1] == (50_000, 50_000)
        assert told == sorted(told)
        told.clear()
        team.held_out(MIXTURE, 0)
        assert (told[0], told[-1]) == ((0, 50_000), (50_000, 50_000))
        expectation = work.expectation(MIXTURE, 0)
        told.clear()
        team.sums(expectation, 0, (1, 3))
        (_, middle), (first, last) = expectation.pieces[1], expectation.pieces[2]
        assert middle == first
        assert told[-1] == (last - expectation.pieces[1][0],) * 2
    finally:
        team.close()
