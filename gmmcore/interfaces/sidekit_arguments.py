"""Checks of the arguments of SIDEKIT's methods; the error of a wrong argument has one line."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable
from numbers import Real
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from gmmcore.core.density import checked_frames
from gmmcore.core.frames import ArraySource
from gmmcore.errors import GmmcoreError
from gmmcore.files import PathLike
from gmmcore.formats.registry import format_by_extension, format_by_name
from gmmcore.interfaces.frames import spooled


def refuse(name: str, found: str, expected: str, remedy: str = "correct it") -> NoReturn:
    """Raise the error of a wrong argument, or of a wrong value from a features server."""
    raise GmmcoreError(f"{name}: {found}; expected {expected}; {remedy}")


def type_of(value: Any) -> str:
    """Describe a value by its type, for messages."""
    return f"a value of type {type(value).__name__}"


def shown(value: Any) -> str:
    """Describe a value for messages: a number or a text itself, other values by their type."""
    if isinstance(value, int | float | np.number):
        return str(value)
    if isinstance(value, str):
        return repr(value)
    if isinstance(value, list | tuple) and not value:
        return f"an empty {type_of(value)[2:]}"
    return type_of(value)


def whole(name: str, value: Any, least: int) -> int:
    """Check a whole number of any type."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        refuse(name, shown(value), f"a whole number, {least} or more")
    return number


def real(name: str, value: Any) -> float:
    """Check a real number of any type, infinite or not."""
    if not isinstance(value, Real) or np.isnan(float(value)):
        refuse(name, shown(value), "a number")
    return float(value)


def frames(name: str, value: Any) -> float:
    """Check a number of frames, which need not be whole."""
    if not 0 <= (number := real(name, value)) < np.inf:
        refuse(name, shown(value), "a number of frames, 0 or more")
    return number


def limits(values: Any) -> list[int]:
    """Check the numbers of iterations after each split."""
    numbers = list(values) if np.iterable(values) and not isinstance(values, str) else []
    if not numbers:
        expected = "a sequence such as (1, 2, 4)"
        refuse("iterations", shown(values), expected, "(0,) makes no iterations")
    return [whole("iterations", number, 0) for number in numbers]


def bounds(**values: Any) -> list[float]:
    """Check a floor and a ceiling of variances; the names are those of the arguments."""
    floor, ceiling = found = [real(name, value) for name, value in values.items()]
    if not 0 <= floor <= ceiling:
        expected = f"0 <= {' <= '.join(values)}"
        refuse(", ".join(values), f"{floor:g}, {ceiling:g}", expected, "correct them")
    return found


def check_folder(output_file_name: Any) -> None:
    """Refuse the beginning of file names whose folder does not exist."""
    if not isinstance(output_file_name, str | os.PathLike):
        refuse("output_file_name", shown(output_file_name), "what the names of files begin with")
    folder = os.path.dirname(output_file_name)
    if folder and not os.path.isdir(folder):
        found = f"the folder {folder} does not exist"
        refuse("output_file_name", found, "an existing folder", "make it first")


def check_extension(path: PathLike, name: str) -> None:
    """Refuse a file name with the extension of another format than `name`."""
    found = format_by_extension(path)
    if found is not None and found.name != name:
        wanted = format_by_name(name)
        refuse(
            str(path),
            f"the extension of {found.title}",
            f"that of {wanted.title}, such as {wanted.extensions[0]}",
            "change it, or write that format with gmmcore.write_mixture",
        )


def frame_source(features_server: Any, feature_list: Any) -> ArraySource:
    """Make a source of a server and a list or IdMap, or of an array (F, D) and None."""
    if isinstance(features_server, np.ndarray):
        if feature_list is not None:
            found = f"{shown(feature_list)} beside frames in an array"
            expected = "None, for an array has no shows"
            refuse("feature_list", found, expected, "give a features server, or None")
        return array_source(features_server)
    is_class = isinstance(features_server, type)
    if is_class or not callable(getattr(features_server, "load", None)):
        refuse(
            "features_server",
            f"the class {features_server.__name__}" if is_class else type_of(features_server),
            "an object with load(show, start=, stop=), or one array of frames (F, D) with None "
            "as the list",
            "make a FeaturesServer, or join arrays with numpy.concatenate",
        )
    segments = _segments(feature_list)
    # A training uses selected frames only.
    before = getattr(features_server, "keep_all_features", None)
    if before is not None:
        features_server.keep_all_features = False
    try:
        return spooled((show, _loaded(features_server, show, part)) for show, part in segments)
    finally:
        if before is not None:
            features_server.keep_all_features = before


def array_source(values: npt.ArrayLike) -> ArraySource:
    """Make a source of an array (F, D) of one finite frame or more."""
    source = ArraySource(checked_frames(values, finite=True))
    if not source.frames:
        refuse("frames", "none were given", "an array (F, D)", "check where it is made")
    return source


def _loaded(server: Any, show: str, segment: dict[str, int | None]) -> npt.NDArray[Any]:
    try:
        loaded = server.load(show, **segment)
    # `spooled` takes an OSError for a fault of its temporary file.
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


def _segments(feature_list: Any) -> list[tuple[str, dict[str, int | None]]]:
    """Return the shows of a list or an IdMap, with the arguments ``start`` and ``stop`` of each."""
    if not hasattr(feature_list, "rightids"):
        # The order of a set, on which results depend, is another one in every process.
        unfit = isinstance(feature_list, str | bytes | set | frozenset)
        if unfit or not isinstance(feature_list, Iterable):
            raise GmmcoreError(
                f"the feature list: {type_of(feature_list)}; a list of shows, or an IdMap, "
                "was expected; put the names into a list"
            )
        return [(_show(name), {}) for name in feature_list]
    columns = [
        np.ravel(np.asarray(getattr(feature_list, name, ()), dtype=object)).tolist()
        for name in ("rightids", "start", "stop")
    ]
    if len({len(column) for column in columns}) > 1:
        found = "an IdMap with {} rightids, {} start and {} stop".format(*map(len, columns))
        refuse("the feature list", found, "as many of each", "make the IdMap again")
    result = []
    for name, start, stop in zip(*columns, strict=True):
        show = _show(name)
        for limit in (start, stop):
            if limit is not None and not (isinstance(limit, Real) and float(limit).is_integer()):
                found = f"its segment has the limit {limit!r}"
                refuse(f"show {show}", found, "a whole number, or None", "correct the IdMap")
        if start is not None and stop is not None and stop < start:
            found = f"its segment goes from {start} to {stop}"
            refuse(f"show {show}", found, "a start before the stop", "correct the IdMap")
        ends = {"start": start, "stop": stop}
        result.append((show, {end: None if at is None else int(at) for end, at in ends.items()}))
    return result


def _show(name: Any) -> str:
    if not isinstance(name, str | int | np.integer | os.PathLike):
        raise GmmcoreError(
            f"the feature list: {type_of(name)} where the name of a show was expected; "
            "give names as text, or frames as one array instead of the server"
        )
    return str(name)
