"""The errors and warnings that a user can act on."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

REMEDY = "remove it and give the same command again"
"""What an error message advises for a damaged file of a run."""


class GmmcoreError(Exception):
    """Base class of errors in input or configuration.

    The message names the file, show or key, what was found, what was expected and what to do, in
    one line for each mistake. The command line prints it without a traceback.
    """


class DamagedFileError(GmmcoreError):
    """A file of a run is not what was written there, and can be made again; `what` is wrong."""

    def __init__(self, path: str | os.PathLike[str], what: str) -> None:
        super().__init__(f"{os.fspath(path)}: {what}; {REMEDY}")
        self.path, self.what = os.fspath(path), what

    def __reduce__(self) -> tuple[type[DamagedFileError], tuple[str, str]]:
        """Worker processes send the error to the one that began them."""
        return type(self), (self.path, self.what)


def warn(line: str, category: type[Warning] = UserWarning) -> None:
    """Warn of a line, unless it is empty, at the place where a user calls the package."""
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("gmmcore."):
        frame, level = frame.f_back, level + 1
    if line:
        warnings.warn(line, category, stacklevel=level)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 show`` or ``2 shows``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@contextmanager
def one_line() -> Iterator[None]:
    """End the program with the line of an error, without a traceback."""
    try:
        yield
    except GmmcoreError as error:
        raise SystemExit(f"gmmcore: error: {error}") from None


@contextmanager
def explained(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn errors of the numerical core into a `GmmcoreError` that names the file."""
    try:
        yield
    except (FloatingPointError, ValueError) as error:
        raise GmmcoreError(f"{path}: {error}") from error
