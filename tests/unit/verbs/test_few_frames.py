"""A line warns of few frames for the parameters of a stage."""

from __future__ import annotations

import pytest

from gmmcore.verbs._common import few_frames


@pytest.mark.parametrize(
    ("full", "parameters", "needed"), [(False, 1 + 2 * 20, 11), (True, 1 + 20 + 210, 58)]
)
def test_few_are_less_than_five_numbers_for_each_parameter(full, parameters, needed):
    assert few_frames(needed * 64, 64, 20, full=full) == ""
    line = few_frames(needed * 64 - 64, 64, 20, full=full)
    kind = "full" if full else "diagonal"
    assert f"{needed - 1:.1f} for each of 64 {kind} components of {parameters} parameters" in line
    assert f"fewer than {needed} " in line
    assert ("raise full.prior" in line) == full
    assert "\n" not in line
