"""Nested random subsets of frames."""

from __future__ import annotations

import numpy as np
import pytest

from gmmcore.core.nesting import frame_levels
from gmmcore.core.schedule import LARGEST_LEVEL, level_of


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_each_level_has_half_of_the_one_below(seed: int) -> None:
    levels = frame_levels(seed, "a show", 1 << 20)
    for level in range(12):
        count = np.count_nonzero(levels >= level)
        expected = (1 << 20) / 2**level
        assert abs(count - expected) <= 5 * np.sqrt(expected)
    assert levels.min() == 0
    assert levels.max() <= LARGEST_LEVEL


def test_neighbouring_frames_are_drawn_independently() -> None:
    chosen = (frame_levels(1, "a", 1 << 18) >= 1).astype(float)
    for distance in (1, 2, 3, 10, 64):
        product = np.mean((chosen[distance:] - 0.5) * (chosen[:-distance] - 0.5))
        assert abs(product) < 5 * 0.25 / np.sqrt(1 << 18)


def test_levels_depend_on_seed_show_and_position_only() -> None:
    base = frame_levels(1, "a", 1000)
    assert (frame_levels(1, "a", 300) == base[:300]).all()
    assert (frame_levels(2, "a", 1000) != base).any()
    assert (frame_levels(1, "b", 1000) != base).any()


@pytest.mark.parametrize("frames", [1, 10, 12_345, 10**6, 10**9])
@pytest.mark.parametrize("wanted", [1, 500, 32_000, 10**6])
def test_a_subset_has_about_the_wanted_frames(frames: int, wanted: int) -> None:
    level = level_of(frames, wanted)
    if level == 0:
        assert frames <= np.sqrt(2) * wanted
    elif level < LARGEST_LEVEL:
        assert wanted / np.sqrt(2) <= frames / 2**level <= np.sqrt(2) * wanted
