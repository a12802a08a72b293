"""The errors that a user can act on."""

from __future__ import annotations

__all__ = ["DamagedFileError", "GmmcoreError"]


class GmmcoreError(Exception):
    """A mistake of input or configuration, told in one line.

    The message names the file, show or key, what was found, what was expected
    and what to do. The command line prints it without a traceback.
    """


class DamagedFileError(GmmcoreError):
    """A file that gmmcore wrote is no longer what it wrote (truncated, altered, emptied)."""
