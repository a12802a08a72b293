"""Stages, the subsets that they read, and when they end."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from gmmcore.core.schedule import LARGEST_LEVEL, Course, Stage, frame_levels, level_of, stages


def read(course: Course, gains: list[float]) -> list[int]:
    """Levels of the iterations, where iteration i over frames read before gains gains[i]."""
    levels: list[int] = []
    gain: float | None = None
    while True:
        before = levels[-1] if levels else 0
        level = course.next_level(len(levels), before, gain)
        if level is None:
            return levels
        gain = gains[len(levels)] if levels and level == before else None
        levels.append(level)


def course(iterations: int, level: int, final: bool, llk_gain: float = 0.01) -> Course:
    return Course(Stage("diag", 8, iterations, "split", final), llk_gain, level)


GREAT = [1.0] * 20


@pytest.mark.parametrize(
    ("limit", "level", "final", "expected"),
    [
        (5, 0, False, [0] * 5),
        (5, 0, True, [0] * 5),
        (5, 3, False, [3] * 5),
        (5, 3, True, [3, 3, 3, 3, 0]),
        (3, 3, True, [3, 3, 0]),
        (2, 3, True, [3, 0]),
        (1, 3, True, [0]),
        (0, 3, True, []),
    ],
)
def test_levels_while_everything_gains(
    limit: int, level: int, final: bool, expected: list[int]
) -> None:
    assert read(course(limit, level, final), GREAT) == expected


def test_the_number_of_last_iterations_is_a_setting() -> None:
    stage = Stage("diag", 8, 6, "split", final=True)
    assert read(Course(stage, 0.01, 3, last_iterations=2), GREAT) == [3, 3, 3, 3, 0, 0]
    assert read(Course(stage, 0.01, 3, last_iterations=9), GREAT) == [0] * 6


def test_a_subset_that_gains_no_more_ends_an_early_stage() -> None:
    assert read(course(9, 2, False), [0, 1, 0.001, 1, 1, 1, 1, 1, 1]) == [2, 2, 2]


def test_it_leads_the_final_stage_to_all_frames_for_the_last_iterations() -> None:
    assert read(course(9, 2, True), [0, 1, 0.001, 9, 0.001, 9, 9, 9, 9]) == [2, 2, 2, 0]
    two = replace(course(9, 2, True), last_iterations=2)
    assert read(two, [0, 1, 0.001, 9, 1, 1, 0.0, 9, 9]) == [2, 2, 2, 0, 0, 0, 0]


def test_the_final_stage_goes_on_to_the_last_gain() -> None:
    last = Stage("diag", 8, 30, "split", final=True)
    size = {"llk_gain": 0.01, "dimension": 60, "frames_per_component": 500, "last_gain": 0.001}
    many, few = (Course.of(last, frames=frames, **size) for frames in (10_000_000, 1000))
    assert (many.llk_gain, few.llk_gain) == (0.003, 0.001)
    early = replace(last, final=False)
    assert Course.of(early, frames=1000, **size).llk_gain == 0.01
    assert Course.of(last, frames=1000, **{**size, "llk_gain": -1.0}).llk_gain == -1.0
    assert [stage.iterations for stage in stages(8)] == [0, 1, 2, 30]
    assert [stage.iterations for stage in stages(8, [1, 2])] == [0, 1, 2, 2]


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("level", [0, 1, 5])
@pytest.mark.parametrize("limit", range(7))
def test_every_pattern_of_gains(limit: int, level: int, final: bool) -> None:
    for pattern in product([-0.5, 0.5], repeat=limit):
        levels = read(course(limit, level, final), list(pattern))
        assert len(levels) <= limit
        assert levels == sorted(levels, reverse=True)
        assert set(levels) <= {0, level}
        if final and levels:
            assert levels[-1] == 0
        if not final:
            assert set(levels) <= {level}


def test_an_endless_gain_is_stopped_by_no_subset() -> None:
    assert read(course(4, 2, True, llk_gain=float("-inf")), [-9.0] * 4) == [2, 2, 2, 0]


def test_subsets_grow_with_the_components() -> None:
    def level(stage: Stage, frames: int = 5_000_000, wanted: int | None = 500) -> int:
        return Course.of(
            stage, llk_gain=0.01, frames=frames, dimension=60, frames_per_component=wanted
        ).level

    plan = stages(512, [4], 2)
    levels = [level(stage) for stage in plan]
    # 100,000 frames, then 500 per component; the full ones want 7,875 each.
    assert levels == [6, 6, 6, 6, 6, 6, 6, 6, 5, 4, 0]
    assert [stage.final for stage in plan] == [False] * 10 + [True]
    assert {level(stage, wanted=None) for stage in plan} == {0}
    assert {level(stage, frames=140_000) for stage in plan} == {0}


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
