"""The errors that a user can act on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


class GmmcoreError(Exception):
    """Base class of errors in input or configuration.

    The message names the file, show or key, what was found, what was expected and what to do, in
    one line for each mistake. The command line prints it without a traceback.
    """


class DamagedFileError(GmmcoreError):
    """Error raised for a file that gmmcore wrote and that was truncated or altered since."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 show`` or ``2 shows``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@contextmanager
def explained(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn errors of the numerical core into a `GmmcoreError` that names the file."""
    try:
        yield
    except (FloatingPointError, ValueError) as error:
        raise GmmcoreError(f"{path}: {error}") from error
