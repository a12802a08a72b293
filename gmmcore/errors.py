"""The errors that a user can act on, and how they count."""

from __future__ import annotations

__all__ = ["DamagedFileError", "GmmcoreError", "counted"]


class GmmcoreError(Exception):
    """A mistake of input or configuration, told in one line.

    The message names the file, show or key, what was found, what was expected
    and what to do. The command line prints it without a traceback.
    """


class DamagedFileError(GmmcoreError):
    """A file that gmmcore wrote is no longer what it wrote (truncated, altered, emptied)."""


def counted(number: int, noun: str) -> str:
    """Such as ``1 show`` and ``2 shows``, for messages."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
