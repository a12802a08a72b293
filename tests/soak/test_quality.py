"""benchmarks/quality.py runs, small; what it says then means nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_quality_benchmark_runs(tmp_path):
    rng = np.random.default_rng(0)
    shows = {f"show{index}": rng.standard_normal((300, 5)) for index in range(3)}
    np.savez(tmp_path / "shows.npz", **shows)
    (tmp_path / "folder").mkdir()
    for name, frames in shows.items():
        np.save(tmp_path / "folder" / f"{name}.npy", frames)
    command = [sys.executable, "-m", "benchmarks.quality", "--quick", "--output", str(tmp_path)]
    command += ["--features", f"an archive={tmp_path / 'shows.npz'}"]
    command += ["--features", f"a folder={tmp_path / 'folder'}"]

    def run(*more):
        done = subprocess.run(
            [*command, *more], cwd=ROOT, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, (tmp_path / "points.jsonl").read_bytes()

    run("--only", "fits")
    printed, points = run()
    titles = ["speech", "small", "outliers", "fits", "draws"]
    assert [f"### {title}" in printed for title in titles] == [True] * len(titles)
    aims = ["speech, 8 diag", "speech, 4 full", "wins", "one bad value", "draws", "fall"]
    assert [aim in printed.split("###")[0] for aim in aims] == [True] * len(aims)
    assert len([*tmp_path.glob("*.svg")]) == 5
    # What is there is not measured again.
    assert run() == (printed, points)
