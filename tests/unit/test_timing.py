"""Times in the log of a stage."""

from __future__ import annotations

from pathlib import Path

from gmmcore.workflow.timing import StageTime, Stopwatch, stage_time


def test_the_line_of_a_log_is_read_as_it_was_written(tmp_path: Path) -> None:
    log = tmp_path / "64.log"
    times = StageTime(4, 1.25, 2.5, 131.0)
    log.write_text(f"demo  diag    64  iteration  1  ...\ndemo  diag/64: {times.line()}\n")
    assert stage_time(log) == times
    log.write_text("demo  diag    64  iteration  1  log-likelihood/frame -1.0\n")
    assert stage_time(log) is None
    assert stage_time(tmp_path / "missing.log") is None


def test_a_stopwatch_counts_the_time_of_the_processor() -> None:
    watch = Stopwatch()
    sum(range(200_000))
    time = watch.stop(1)
    assert time.iterations == 1
    assert 0 < time.processor_seconds <= time.seconds * 1.5
    assert time.megabytes > 5
