"""The benchmarks of speed and of the workflow run, small; what they say then means nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        (["speed"], 3),
        (["speed", "--against", str(ROOT)], 4),
        (["speed", "--workers"], 2),
        (["gpu"], 2),
        (["shows"], 1),
        (["workflow"], 4),
    ],
)
def test_a_benchmark_runs(arguments, rows):
    name, *options = arguments
    if name == "gpu":
        pytest.importorskip("jax")
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--quick", *options],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if line.startswith("|")]) == 2 + rows
