"""Frames of a training: one array, or what a server loads with ``load(show, start=, stop=)``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.core.density import checked_frames
from gmmcore.core.frames import ArraySource
from gmmcore.errors import GmmcoreError
from gmmcore.interfaces.frames import spooled
from gmmcore.interfaces.sidekit_arguments import refuse, shown, type_of

__all__ = ["array_source", "frame_source"]

Segments = list[tuple[str, dict[str, int | None]]]


def frame_source(features_server: Any, feature_list: Any) -> ArraySource:
    """The frames of SIDEKIT's two arguments: a server and a list, or an array and None.

    Each show is loaded once, where SIDEKIT processes it again in every iteration; see
    `gmmcore.interfaces.frames.spooled`.

    Parameters
    ----------
    features_server
        ``load(show, start=, stop=)`` gives frames (n, D) and a label. Of a SIDEKIT server
        only the selected frames are taken, as SIDEKIT does in a training. Or an array (F, D).
    feature_list
        Names of shows; or an IdMap, whose ``rightids`` are shows, and whose ``start`` and
        ``stop`` are the frames that a segment begins and ends with. None with an array.

    Raises
    ------
    GmmcoreError
        If the server or the list is none, which is told before anything is loaded; if there are
        no frames; or if the server cannot load a show, or returns anything but frames of the
        dimension of the first show, all of them finite, and a label.
    """
    if isinstance(features_server, np.ndarray):
        if feature_list is not None:
            found = f"{shown(feature_list)} beside frames in an array"
            expected = "None, for an array has no shows"
            refuse("feature_list", found, expected, "give a features server, or None")
        return array_source(features_server)
    _check_server(features_server)
    segments = _segments(feature_list)
    with _selected_frames_only(features_server):
        return spooled((show, _loaded(features_server, show, part)) for show, part in segments)


def array_source(values: npt.ArrayLike) -> ArraySource:
    """An array (F, D) of one frame or more, all of them finite."""
    frames = ArraySource(checked_frames(values, finite=True))
    if not frames.frames:
        refuse("frames", "none were given", "an array (F, D)", "check where it is made")
    return frames


def _check_server(server: Any) -> None:
    if isinstance(server, type) or not callable(getattr(server, "load", None)):
        refuse(
            "features_server",
            f"the class {server.__name__}" if isinstance(server, type) else type_of(server),
            "an object with load(show, start=, stop=), or one array of frames (F, D) with None "
            "as the list",
            "make a FeaturesServer, or join arrays with numpy.concatenate",
        )


def _loaded(server: Any, show: str, segment: dict[str, int | None]) -> npt.NDArray[Any]:
    try:
        loaded = server.load(show, **segment)
    # An OSError would be taken for one of the file that the frames are kept in.
    except (OSError, LookupError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise GmmcoreError(
            f"show {show}: the features server cannot load it ({reason}); "
            "expected a show that it knows; correct the list or the server"
        ) from error
    if not isinstance(loaded, tuple | list) or len(loaded) != 2:
        size = f" and length {len(loaded)}" if isinstance(loaded, tuple | list) else ""
        refuse(
            f"show {show}",
            f"the features server's load returned {type_of(loaded)}{size}",
            "(frames, label), with frames of shape (n, D)",
            "correct the server",
        )
    return checked_frames(loaded[0], f"show {show}")


def _segments(feature_list: Any) -> Segments:
    """The shows of a list or an IdMap, each with the arguments ``start`` and ``stop`` it has."""
    if not hasattr(feature_list, "rightids"):
        # A set has another order in every process, and results depend on it.
        unfit = isinstance(feature_list, str | bytes | set | frozenset)
        if unfit or not isinstance(feature_list, Iterable):
            raise GmmcoreError(
                f"the feature list: {type_of(feature_list)}; a list of shows, or an IdMap, "
                "was expected; put the names into a list"
            )
        return [(_show(name), {}) for name in feature_list]
    shows, starts, stops = (
        np.ravel(np.asarray(getattr(feature_list, name, ()), dtype=object)).tolist()
        for name in ("rightids", "start", "stop")
    )
    if not len(shows) == len(starts) == len(stops):
        refuse(
            "the feature list",
            f"an IdMap with {len(shows)} rightids, {len(starts)} start and {len(stops)} stop",
            "as many of each",
            "make the IdMap again",
        )
    result: Segments = []
    for show, start, stop in zip(map(_show, shows), starts, stops, strict=True):
        for limit in (start, stop):
            if limit is not None and not (isinstance(limit, Real) and float(limit).is_integer()):
                found = f"its segment has the limit {limit!r}"
                refuse(f"show {show}", found, "a whole number, or None", "correct the IdMap")
        if start is not None and stop is not None and stop < start:
            found = f"its segment goes from {start} to {stop}"
            refuse(f"show {show}", found, "a start before the stop", "correct the IdMap")
        ends = {"start": start, "stop": stop}
        result.append((show, {name: None if at is None else int(at) for name, at in ends.items()}))
    return result


def _show(name: Any) -> str:
    if not isinstance(name, str | int | np.integer | os.PathLike):
        raise GmmcoreError(
            f"the feature list: {type_of(name)} where the name of a show was expected; "
            "give names as text, or frames as one array instead of the server"
        )
    return str(name)


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
