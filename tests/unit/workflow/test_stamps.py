"""Stamps: written if their content changed, and later than all results."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from gmmcore.errors import GmmcoreError
from gmmcore.workflow.runs import read_runs
from gmmcore.workflow.stamps import write_stamps

BASE: dict[str, Any] = {
    "components": 8,
    "iterations": [1, 2, 3],
    "features": {"list": "shows.txt", "pattern": "{show}.h5"},
}
STAGE = Path("results/ubm/diag/4/settings.json")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.h5", "b.h5"):
        Path(name).write_text(name)
    Path("shows.txt").write_text("a\nb\n")


def stamps(**changes: Any) -> dict[str, tuple[str, int]]:
    """Write the stamps of a configuration; content and time of each."""
    write_stamps(read_runs({**BASE, **changes}))
    found = [*Path("results").rglob("settings.json"), *Path("results").rglob("source.json")]
    return {str(path): (path.read_text(), path.stat().st_mtime_ns) for path in found}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"components": 16}, True),
        ({"full": {"iterations": 3}}, True),
        ({"export": ["htk"]}, True),
        ({"jobs": 3}, True),
        ({"memory": 10}, True),
        ({"device": "cuda"}, True),
        ({"iterations": [1, 2, 9]}, True),
        ({"iterations": [1, 9, 3]}, False),
        ({"llk_gain": 0.1}, False),
        ({"precision": "double"}, False),
        ({"variance": {"floor": 0.5}}, False),
        ({"method": "sidekit"}, False),
        ({"features": {**BASE["features"], "delta": True}}, False),
        ({"held_out": 0.5}, False),
    ],
    ids=str,
)
def test_the_stamp_of_a_stage_holds_what_decides_it(change, same):
    before = stamps()[str(STAGE)]
    assert (stamps(**change)[str(STAGE)] == before) is same
    assert stamps()[str(STAGE)][0] == before[0]


def test_a_stamp_that_does_not_change_is_not_touched():
    assert stamps() == stamps()


def test_a_feature_file_that_changes_its_size_or_time_is_seen():
    (source,) = (path for path in stamps() if path.endswith("source.json"))
    seen = {stamps()[source][0]}
    Path("a.h5").write_text("longer")
    seen.add(stamps()[source][0])
    os.utime("b.h5", (1, 1))
    seen.add(stamps()[source][0])
    assert len(seen) == 3
    Path("shows.txt").unlink()
    with pytest.raises(GmmcoreError, match=r"shows\.txt: the feature list cannot be read"):
        stamps()
    # Where the features were taken away, the frames made of them are used.
    Path(source).with_name("shows.tsv").touch()
    assert stamps()[source][0] in seen


def test_a_stamp_that_changes_is_later_than_results_of_the_future():
    stamps()
    product = Path("results/ubm/diag/4/000.h5")
    product.touch()
    os.utime(product, (time.time() + 1e6, time.time() + 1e6))
    changed = stamps(precision="double")[str(STAGE)]
    assert product.stat().st_mtime_ns < changed[1]
    assert product.stat().st_mtime <= time.time()


def test_a_stamp_of_the_future_is_written_anew():
    stamps()
    os.utime(STAGE, (time.time() + 1e6, time.time() + 1e6))
    stamps()
    assert STAGE.stat().st_mtime <= time.time()


def test_features_of_the_user_are_not_written_over():
    Path("corpus").mkdir()
    Path("corpus/shows.txt").write_text("mine\n")
    with pytest.raises(GmmcoreError, match=r"corpus/shows\.txt: was not made by this workflow"):
        stamps(demo={"folder": "corpus"}, features={})
    Path("corpus/shows.txt").unlink()
    stamps(demo={"folder": "corpus"}, features={})
    assert json.loads(Path("corpus/settings.json").read_text())["demo"]["seed"] == 1
