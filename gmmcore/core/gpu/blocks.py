"""Sums of many blocks of frames on a device, and what of the frames stays there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.core.frames import FrameSource
from gmmcore.core.gpu.device import Device, DeviceMemoryError, find
from gmmcore.core.gpu.program import RUN, parameters_of, program
from gmmcore.core.kernels.base import Kernel
from gmmcore.core.summation import SumTree

__all__ = ["DeviceSums"]

# Largest number of bytes of a block's array, of which a few are in use at a time, and of frames:
# blocks occupy a device, and fit on one of 4 GB.
_LARGEST_BYTES = 1 << 28
_LARGEST_BLOCK = 1 << 17
# Number of blocks that wait for the device: while it computes one, the next one is copied to it.
_WAITING = 2


class DeviceSums:
    """The E-step of a kernel on a device.

    Parameters
    ----------
    kernel : Kernel
        Its coefficients are used, and it finishes the sums.
    has_statistics : bool
        Whether the sums are statistics and the log-likelihood, or only the latter.

    Attributes
    ----------
    piece : int
        Least number of frames whose sums are taken together. It depends only on the mixture, so
        that sums of several devices can be added.
    """

    def __init__(self, kernel: Kernel, has_statistics: bool) -> None:
        self._kernel = kernel
        self._has_statistics = has_statistics
        components, width = kernel.padded_components, kernel.width
        size = kernel.dtype.itemsize * max(components, width, components * width // RUN)
        fits = _power_of_two(_LARGEST_BYTES // size + 1) // 2
        self.piece = max(RUN, min(fits, _LARGEST_BLOCK))

    def tree(
        self,
        source: FrameSource,
        pieces: Sequence[tuple[int, int]],
        chosen: Sequence[int],
        count: Callable[[int], None],
    ) -> SumTree:
        """Compute the sums of chosen pieces; `count` is called with each one that is begun.

        Where memory lacks, all begins anew with smaller blocks. They do not change the sums.
        """
        device, told = find(), set[int]()

        def count_once(piece: int) -> None:
            if piece not in told:
                told.add(piece)
                count(piece)

        while True:
            block = max(RUN, min(self.piece, _power_of_two(source.frames)) >> device.halvings)
            try:
                with device.lock, device.computing():
                    return self._tree(device, block, source, pieces, chosen, count_once)
            except DeviceMemoryError as error:
                device.make_room(error, block, RUN)

    def _tree(
        self,
        device: Device,
        block: int,
        source: FrameSource,
        pieces: Sequence[tuple[int, int]],
        chosen: Sequence[int],
        count: Callable[[int], None],
    ) -> SumTree:
        import jax

        kernel = self._kernel
        compute = program(kernel.is_full, kernel.dtype, device.products, self._has_statistics)
        kept = device.kept.of(source, (block, kernel.dtype, kernel.is_centred))
        parameters = jax.device_put(parameters_of(kernel))
        waiting: deque[Any] = deque()
        tree = SumTree(len(pieces))
        for piece in chosen:
            first, last = pieces[piece]
            starts = range(first, last, block)
            of_piece = SumTree(len(starts))
            for index, start in enumerate(starts):
                stop = min(start + block, last)
                frames = kept.get(start)
                if frames is None:
                    frames = jax.device_put(self._read(source, start, stop, block))
                    device.kept.keep(source, start, frames)
                if len(waiting) > _WAITING:
                    waiting.popleft().block_until_ready()
                sums = compute(frames, stop - start, parameters)
                waiting.append(sums)
                of_piece.add((0, index), sums)
            total = of_piece.total
            assert total is not None
            tree.add((0, piece), total)
            count(piece)
        tree.nodes = {node: np.array(sums) for node, sums in tree.nodes.items()}
        return tree

    def _read(
        self, source: FrameSource, start: int, stop: int, length: int
    ) -> npt.NDArray[np.floating]:
        """Read the frames of a block, and repeat the first one up to a length."""
        frames = np.asarray(source.read(start, stop))
        kernel = self._kernel
        if frames.dtype != np.float32:  # Frames in single precision are sent as they are.
            # Others are rounded here, unless the origin is to be subtracted before.
            higher = min(np.result_type(frames.dtype, kernel.dtype), np.dtype(np.float64))
            with np.errstate(over="ignore"):  # It is found by its log-likelihood.
                frames = frames.astype(kernel.dtype if kernel.is_centred else higher)
        if len(frames) < length:
            rest = np.broadcast_to(frames[:1], (length - len(frames), frames.shape[1]))
            frames = np.concatenate([frames, rest])
        return np.ascontiguousarray(frames)


def _power_of_two(value: int) -> int:
    """Return the smallest power of two that is not less."""
    return 1 << (value - 1).bit_length()
