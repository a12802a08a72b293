"""The parts that frames are divided into."""

from __future__ import annotations

import numpy as np
import pytest

from gmmcore.core.estep import parts
from gmmcore.core.frames import ArraySource

# Frames without a byte of memory.
NUMBERS = [0, 1, 2047, 2048, 2049, 64 * 2048, 64 * 2048 + 1, 200_000, 12_345_678]


def frames(number: int, dimension: int = 1) -> ArraySource:
    return ArraySource(np.broadcast_to(np.float32(1), (number, dimension)))


@pytest.mark.parametrize("number", NUMBERS)
def test_parts_cover_all_frames_and_there_are_64_at_most(number):
    found = parts(frames(number))
    assert 1 <= len(found) <= 64
    starts, lengths = [part.offset for part in found], [part.frames for part in found]
    assert starts == [0, *np.cumsum(lengths)[:-1]]
    assert sum(lengths) == number
    # All are of one length, but for the last one.
    assert len({*lengths[:-1]}) <= 1
    assert lengths[-1] <= max(lengths)
    assert all(start % 2048 == 0 for start in starts)


@pytest.mark.parametrize("number", NUMBERS)
def test_parts_depend_on_the_number_of_frames_alone(number):
    class Other:
        def __init__(self) -> None:
            self.frames, self.dimension = number, 60

        def read(self, start, stop):
            raise AssertionError("frames are not read to divide them")

    here, there = ([(p.offset, p.frames) for p in parts(s)] for s in (frames(number), Other()))
    assert here == there


def test_a_part_reads_its_own_frames():
    values = np.arange(5000, dtype="f")[:, np.newaxis]
    found = [part.read(0, part.frames) for part in parts(ArraySource(values))]
    np.testing.assert_array_equal(np.concatenate(found), values)
    last = parts(ArraySource(values))[-1]
    np.testing.assert_array_equal(last.read(3, 5), values[4099:4101])
