"""Files in the order in which they are made, and what is wrong with each."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from gmmcore.errors import GmmcoreError
from gmmcore.workflow.verified import fault_of

__all__ = ["Chain", "judged"]


@dataclass
class Chain:
    """Result of looking at files in their order, each made from the one before it.

    Attributes
    ----------
    found : dict
        Description of what is wrong, by file.
    beside : dict
        The same for files that the next files do not depend on.
    following : list of str
        Files that come after a wrong one; missing iterations too, if they are jobs.
    missing : str
        The first missing file; empty if there is none.
    asked : bool
        Whether a wrong file was found.
    """

    found: dict[str, str] = field(default_factory=dict)
    beside: dict[str, str] = field(default_factory=dict)
    following: list[str] = field(default_factory=list)
    missing: str = ""
    asked: bool = False

    @property
    def whole(self) -> bool:
        return not self.missing and not self.asked

    def look(self, path: str, judge: Callable[[], str]) -> bool:
        """Look at the next file; return whether it and all files before it are valid."""
        if self.asked:
            self.following += [path] if os.path.lexists(path) else []
            return False
        if not os.path.lexists(path):
            self.missing = self.missing or path
            return False
        reason = f"made from {self.missing}, which is missing" if self.missing else judged(judge)
        if reason:
            self.found[path] = reason
            self.asked = True
        return not reason

    def join(self, other: Chain) -> None:
        """Take the files of another chain for some that the next files are made from."""
        self.found |= other.found
        self.following = [*dict.fromkeys([*self.following, *other.following])]
        self.missing = self.missing or other.missing
        self.asked = self.asked or other.asked

    def look_beside(self, path: str, judge: Callable[[], str]) -> None:
        """Look at one of several files that the next file is made from."""
        if not os.path.lexists(path):
            self.missing = self.missing or path
        elif reason := judged(judge):
            self.found[path] = reason
            self.asked = True


def judged(judge: Callable[[], str]) -> str:
    """Return what is wrong with a file; an error says it too."""
    try:
        return judge()
    except (GmmcoreError, KeyError) as error:
        return fault_of(error)
