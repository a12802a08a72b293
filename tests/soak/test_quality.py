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
        return done.stdout, (tmp_path / "quality" / "points.tsv").read_bytes()

    printed, points = run()
    page = (tmp_path / "quality.md").read_text()
    assert printed.endswith(page + "\n")
    titles = ["Aims", "An archive", "A folder", "Demonstration corpus", "Draws", "side by side"]
    assert [title in page for title in titles] == [True] * len(titles)
    pictures = sorted(path.name for path in (tmp_path / "quality").glob("*.svg"))
    assert pictures == sorted(f"{name.partition('(quality/')[2]}" for name in _links(page))
    # What is there is not measured again.
    assert run() == (page + "\n", points)


def _links(page: str) -> list[str]:
    return [line.rstrip(")") for line in page.splitlines() if line.startswith("![")]
