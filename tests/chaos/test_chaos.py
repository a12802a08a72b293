"""Short forms of benchmarks/chaos.py and benchmarks/corruption.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by its name.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_killed_trainings_end_with_the_bytes_of_an_undisturbed_one(tmp_path, monkeypatch):
    chaos = load("chaos")
    shorter = {"components": 2, "iterations": [2], "full": {"iterations": 1}}
    monkeypatch.setattr(chaos, "CONFIG", {**chaos.CONFIG, **shorter})
    chaos.make_corpus(tmp_path / "corpus")
    expected, seconds = chaos.undisturbed(tmp_path)
    assert all(len(found) > 10 for found in expected.values())
    killed = []
    for number in range(3):
        place = tmp_path / f"run{number}"
        outcome = chaos.chaotic_run(place, number, 1, expected, 3, 0.8 * seconds)
        assert not outcome.wrong, f"{outcome.wrong}: {outcome.kills}\n{outcome.output}"
        killed += outcome.kills
    assert killed


def test_random_damage_is_found(tmp_path):
    outcomes = load("corruption").corruptions(tmp_path, 150, 7)
    kinds = {kind for kind, _, _ in outcomes}
    assert kinds == {"shard", "statistics", "mixture", "corpus.json", "shows.tsv"}
    assert {outcome for _, _, outcome in outcomes} <= {"detected", "without effect"}
    assert outcomes.total() == 150
