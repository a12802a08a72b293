"""A short form of corruption.py."""

from __future__ import annotations

import pytest
from corruption import corruptions
from flows import LONG


@pytest.mark.slow
def test_random_damage_is_found(tmp_path):
    count = 1000 if LONG else 150
    outcomes = corruptions(tmp_path, count, 7)
    kinds = {kind for kind, _, _ in outcomes}
    assert kinds == {"shard", "statistics", "mixture", "corpus.json", "shows.tsv"}
    assert {outcome for _, _, outcome in outcomes} <= {"detected", "without effect"}
    assert outcomes.total() == count
