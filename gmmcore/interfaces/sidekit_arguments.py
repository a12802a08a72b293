"""Checks of the arguments that SIDEKIT's interface takes: what is wrong is told in one line."""

from __future__ import annotations

import operator
import os
from numbers import Real
from typing import Any, NoReturn

import numpy as np

from gmmcore.errors import GmmcoreError
from gmmcore.files import PathLike
from gmmcore.formats.registry import format_by_extension, format_by_name

__all__ = [
    "bounds",
    "check_extension",
    "check_folder",
    "choice",
    "frames",
    "limits",
    "per_component",
    "real",
    "refuse",
    "shown",
    "type_of",
    "whole",
]

_WRITERS = {
    "sidekit": "write",
    "alize": "write_alize",
    "alize-xml": "write_alize, as .gmm",
    "htk": "write_htk",
}


def refuse(name: str, found: str, expected: str, remedy: str = "correct it") -> NoReturn:
    """Raise the error of an argument that makes no sense."""
    raise GmmcoreError(f"{name}: {found}; expected {expected}; {remedy}")


def type_of(value: Any) -> str:
    """What a value is, for messages."""
    return f"a value of type {type(value).__name__}"


def shown(value: Any) -> str:
    """A number or a text itself, and of anything else the type: a message is one line."""
    if isinstance(value, int | float | np.number):
        return str(value)
    if isinstance(value, str):
        return repr(value)
    empty = isinstance(value, list | tuple) and not value
    return f"an empty {type_of(value)[2:]}" if empty else type_of(value)


def whole(name: str, value: Any, least: int) -> int:
    """An argument that is a whole number of any type, as an int."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        refuse(name, shown(value), f"a whole number, {least} or more")
    return number


def limits(values: Any) -> list[int]:
    """The numbers of iterations after each split."""
    numbers = list(values) if np.iterable(values) and not isinstance(values, str) else []
    if not numbers:
        expected = "a sequence such as (1, 2, 4)"
        refuse("iterations", shown(values), expected, "(0,) makes no iterations")
    return [whole("iterations", number, 0) for number in numbers]


def real(name: str, value: Any) -> float:
    """An argument that is a real number and not NaN, as a float."""
    if not isinstance(value, Real) or np.isnan(float(value)):
        refuse(name, shown(value), "a number")
    return float(value)


def choice(name: str, value: Any, *known: str) -> str:
    """An argument that is one of some words."""
    if not isinstance(value, str) or value not in known:
        refuse(name, shown(value), f"one of {', '.join(known)}")
    return value


def frames(name: str, value: Any) -> float:
    """An argument that is a number of frames, not necessarily whole."""
    if not 0 <= (number := real(name, value)) < np.inf:
        refuse(name, shown(value), "a number of frames, 0 or more")
    return number


def per_component(value: Any) -> int | None:
    """The argument `frames_per_component`."""
    return None if value is None else whole("frames_per_component", value, 1)


def bounds(**values: Any) -> list[float]:
    """A floor and a ceiling of variances, given by their names."""
    floor, ceiling = found = [real(name, value) for name, value in values.items()]
    if not 0 <= floor <= ceiling:
        expected = f"0 <= {' <= '.join(values)}"
        refuse(", ".join(values), f"{floor:g}, {ceiling:g}", expected, "correct them")
    return found


def check_folder(output_file_name: Any) -> None:
    """Refuse a beginning of file names in a folder that does not exist."""
    if not isinstance(output_file_name, str | os.PathLike):
        refuse("output_file_name", shown(output_file_name), "what the names of files begin with")
    folder = os.path.dirname(output_file_name)
    if folder and not os.path.isdir(folder):
        found = f"the folder {folder} does not exist"
        refuse("output_file_name", found, "an existing folder", "make it first")


def check_extension(path: PathLike, *names: str) -> None:
    """Refuse a file name with the extension of a format that is none of `names`."""
    found = format_by_extension(path)
    if found is not None and found.name not in names:
        wanted, other = format_by_name(names[0]), _WRITERS.get(found.name, "gmmcore.write_mixture")
        refuse(
            str(path),
            f"the extension of {found.title}",
            f"that of {wanted.title}, such as {wanted.extensions[0]}",
            f"change it, or write that format with {other}",
        )
