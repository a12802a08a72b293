"""A short form of fuzz.py, and a test of its judgement."""

from __future__ import annotations

from pathlib import Path

import fuzz
import numpy as np
import pytest
from flows import LONG


@pytest.mark.slow
def test_damaged_files_of_every_format(tmp_path: Path) -> None:
    count = 100_000 if LONG else 2000
    samples = [*fuzz.own_samples(tmp_path), *fuzz.toolkit_samples()]
    result = fuzz.run(samples, seed=20240501, count=count)
    assert result["bad"] == []
    assert sum(result["total"].values()) == count
    assert result["slowest"] < 2.0
    # It must have found something to refuse in every kind of file.
    assert {name for name, outcome in result["total"] if outcome == "error"} == {
        one.name for one in samples
    }


def test_the_fuzzer_sees_a_wrong_model(tmp_path: Path) -> None:
    one = next(s for s in fuzz.own_samples(tmp_path) if s.name == "own diag alize")
    content = bytearray(one.content)
    values = np.frombuffer(one.content, "<f8", 3, 8)[::-1].copy()
    content[8:32] = values.tobytes()
    assert fuzz.judge(one, bytes(content), touched=24) == "touched"
    assert fuzz.judge(one, bytes(content), touched=0) == "2 numbers changed by 0 bytes"
