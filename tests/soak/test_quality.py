"""benchmarks/quality.py runs, small; what it says then means nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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

    def run():
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout, (tmp_path / "points.tsv").read_bytes()

    printed, points = run()
    titles = ["an archive, 8", "a folder, 8", "draws, 3,000 frames, 8", "draws, 3,000 frames, 16"]
    assert [f"### {title} components" in printed for title in titles] == [True] * len(titles)
    assert len([*tmp_path.glob("*.svg")]) == len(titles)
    # What is there is not measured again.
    assert run() == (printed, points)
