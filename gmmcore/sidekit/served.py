"""Frames of a features server: anything with SIDEKIT's ``load(show, start=, stop=)``."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.errors import GmmcoreError

__all__ = ["ServedFrames"]


class ServedFrames:
    """All frames that a server loads for a list of shows, each show loaded once.

    They lie in a temporary file without a name, which the operating system keeps in memory as
    far as there is room: SIDEKIT processes every show again in every iteration.

    Parameters
    ----------
    features_server
        ``load(show, start=, stop=)`` gives frames (n, D) and a label. Of a SIDEKIT server
        only the selected frames are taken, as SIDEKIT does in a training.
    feature_list
        Names of shows; or an IdMap, whose ``rightids`` are shows, and whose ``start`` and
        ``stop`` are the frames that a segment begins and ends with.

    Attributes
    ----------
    frames, dimension : int

    Raises
    ------
    GmmcoreError
        If there are no frames, or a show has another dimension than the first or
        numbers that are not finite.
    """

    def __init__(self, features_server: Any, feature_list: Any) -> None:
        self.frames = 0
        self.dimension = 0
        dtype: npt.DTypeLike = np.float64
        # It has no name, and ends with this object.
        stream = tempfile.TemporaryFile(prefix="gmmcore-frames-")  # noqa: SIM115
        try:
            with _selected_frames_only(features_server):
                for show, segment in _segments(feature_list):
                    values = np.asarray(features_server.load(show, **segment)[0])
                    if not self.dimension and values.ndim == 2:
                        self.dimension = int(values.shape[1])
                        # Numbers that were float32 are stored as they are.
                        dtype = np.float32 if values.dtype == np.float32 else np.float64
                    self._check(show, values)
                    np.ascontiguousarray(values, dtype).tofile(stream)
                    self.frames += len(values)
            stream.flush()
        except OSError as error:
            stream.close()
            raise GmmcoreError(
                f"{tempfile.gettempdir()}: cannot keep the frames: {error.strerror or error}; "
                "free space, or set TMPDIR to another folder"
            ) from error
        except BaseException:
            stream.close()
            raise
        if not self.frames:
            stream.close()
            raise GmmcoreError("the feature list: no frames are left; check shows and labels")
        shape = (self.frames, self.dimension)
        self._values = np.memmap(stream, dtype, "r", shape=shape)
        stream.close()

    def read(self, start: int, stop: int) -> npt.NDArray[np.floating]:
        """Frames `start` to `stop`, shape (stop - start, D); may be called by several threads."""
        return self._values[start:stop]

    def _check(self, show: str, values: npt.NDArray[Any]) -> None:
        if values.ndim != 2 or values.shape[1] != self.dimension or not self.dimension:
            raise GmmcoreError(
                f"show {show}: frames of shape {values.shape}, (n, {self.dimension or 'D'}) was "
                "expected; check the show's features"
            )
        if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
            raise GmmcoreError(
                f"show {show}: a frame holds a value that is not finite; fix or leave out the show"
            )


def _segments(feature_list: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if not hasattr(feature_list, "rightids"):
        if isinstance(feature_list, str):
            raise GmmcoreError(f"the feature list: {feature_list!r}, a list of shows was expected")
        for show in feature_list:
            yield str(show), {}
        return
    for show, start, stop in zip(
        feature_list.rightids, feature_list.start, feature_list.stop, strict=True
    ):
        ends = {"start": start, "stop": stop}
        yield str(show), {name: None if at is None else int(at) for name, at in ends.items()}


@contextlib.contextmanager
def _selected_frames_only(features_server: Any) -> Iterator[None]:
    if not hasattr(features_server, "keep_all_features"):
        yield
        return
    before = features_server.keep_all_features
    features_server.keep_all_features = False
    try:
        yield
    finally:
        features_server.keep_all_features = before
