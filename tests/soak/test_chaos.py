"""A short form of chaos.py."""

from __future__ import annotations

import chaos
import pytest
from flows import LONG


@pytest.mark.slow
def test_killed_trainings_end_with_the_bytes_of_an_undisturbed_one(tmp_path, monkeypatch):
    shorter = {"components": 2, "iterations": [2], "full": {"iterations": 1}}
    shorter["features"] = {**chaos.CONFIG["features"], "shards": 2}
    two = {"run": None, "runs": {"small": {"full": {"iterations": 0}}, "large": {}}}
    monkeypatch.setattr(chaos, "CONFIG", {**chaos.CONFIG, **shorter})
    monkeypatch.setattr(
        chaos,
        "FORMS",
        {"one run": {"frames_per_component": 4, "iterations": [4]}, "two runs": two},
    )
    chaos.make_corpus(tmp_path)
    expected, seconds = chaos.undisturbed(tmp_path)
    assert all(len(found) > 10 for found in expected.values())
    killed = []
    # The first two runs of this seed are one of each form, killed in all three ways.
    for number in range(100 if LONG else 2):
        place = tmp_path / f"run{number}"
        outcome = chaos.chaotic_run(place, number, 941, expected, 3, 0.8 * seconds)
        assert not outcome.wrong, f"{outcome.wrong}: {outcome.kills}\n{outcome.output}"
        killed += outcome.kills
    assert killed
