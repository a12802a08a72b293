"""What the rules do where jobs are submitted; `--jobs` beside `--cores` says that they are."""

from __future__ import annotations

import re

import pytest
from flows import PLAIN, changed, iterations, jobs

pytestmark = pytest.mark.slow


def test_stages_of_less_than_a_minute_stay_on_the_submitting_machine(trained, fresh):
    log = fresh.run("--jobs", "2")
    # The last stage reads all frames, however many there are.
    assert {rule: jobs(log)[rule] for rule in ("iterate", "iterate_short")} == {
        "iterate": 1,
        "iterate_short": 1,
    }
    assert fresh.made() == trained.made()
    assert "Nothing to be done" in fresh.run("-n", "--jobs", "2")
    # On one machine, another job makes the frames, and finds them to be there.
    assert iterations(fresh.run()) == []
    assert fresh.made() == trained.made()


def test_only_long_stages_are_scattered(trained, fresh):
    fresh.configure(changed(PLAIN, jobs=2))
    fresh.run("--jobs", "2")
    assert (fresh.folder / "logs/tiny/full/4/001/0-of-2.log").exists()
    assert not list(fresh.folder.glob("logs/tiny/diag/**/*-of-2.log"))
    assert fresh.made() == trained.made()


def test_only_jobs_of_long_stages_ask_for_a_gpu(fresh):
    """The submitting machine needs none."""
    fresh.configure({**PLAIN, "device": "cuda"})
    log = fresh.run("--jobs", "2", "-n", "-p", "--quiet", "host")
    asked = dict(re.findall(r": (tiny/\S+): .*gpu=(\d)\)", log))
    assert asked == {"tiny/diag/4": "0", "tiny/full/4": "1"}
    # The frames are not known yet.
    assert min(map(int, re.findall(r" mem_mb=(-?\d+)", log))) > 400
    told = re.findall(r"gmmcore stages .*?--device (\w+) --memory", log)
    assert sorted(told) == ["cpu", "cuda"]
    # Of jobs that share an iteration, those that score held-out frames need one, too.
    scattered = changed(PLAIN, device="cuda", jobs=2, held_out=0.3)
    for values, wanted in ((scattered, "1"), (changed(scattered, held_out=None), "0")):
        fresh.configure(values)
        log = fresh.run("results/tiny/full/4.h5", "--jobs", "2", "-n", "-p", "--quiet", "host")
        parts = set(re.findall(r": tiny/full/4: iteration 001, part \d .*gpu=(\d)\)", log))
        (whole,) = re.findall(r": tiny/full/4: iteration 001 \(.*gpu=(\d)\)", log)
        assert (parts, whole) == ({"1"}, wanted)
        # The statistics of a GPU lie in another order.
        assert re.search(r"gmmcore maximise .*--device cuda", log)
    fresh.configure(PLAIN)
    log = fresh.run("--jobs", "2", "-n", "-p", "--quiet", "host")
    assert set(re.findall(r" gpu=(\d)", log)) == {"0"}
    assert "--device cuda" not in log
