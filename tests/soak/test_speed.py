"""benchmarks/speed.py runs, small; what it says then means nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_speed_benchmark_runs(tmp_path):
    pytest.importorskip("sklearn")
    output = tmp_path / "performance.md"
    command = [sys.executable, "-m", "benchmarks.speed", "--quick", "--output", str(output)]
    command += ["--speech", str(tmp_path)]  # the tables of speech are left out
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    page = output.read_text()
    titles = [
        "Aims",
        "Diagonal covariances",
        "Full covariances",
        "PyCave",
        "Growth",
        "Memory",
        "Accuracy",
        "The workflow itself",
    ]
    assert [title in page for title in titles] == [True] * len(titles)
    assert "covariances, speech" not in page
    # Every table that is printed is in the page.
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert sorted(lines) == sorted(line for line in page.splitlines() if line.startswith("|"))
