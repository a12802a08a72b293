"""Faults of shows, and the reports of them."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, fields

from gmmcore.errors import GmmcoreError, counted
from gmmcore.files import reason_of

__all__ = ["Fault", "FaultyShowError", "fault_table", "printable", "reading", "report"]

_TOLD = 3
_PARTICULAR = re.compile(r"\S*[/\d]\S*")


@dataclass(frozen=True)
class Fault:
    """One fault of one show.

    Attributes
    ----------
    show, path : str
        As in the list.
    found, expected, remedy : str
        What there is, what should be there, and what to do.
    """

    show: str
    path: str
    found: str
    expected: str
    remedy: str

    def line(self) -> str:
        """The fault as one line of text."""
        where = f"show {printable(self.show)}" + (f" ({printable(self.path)})" if self.path else "")
        return f"{where}: {self.found}; expected {self.expected}; {self.remedy}"

    def facts(self) -> dict[str, str]:
        """JSON values; ``Fault(**facts)`` is the same fault."""
        return asdict(self)


class FaultyShowError(GmmcoreError):
    """A show that cannot be used, raised where its name and list are not known.

    Parameters
    ----------
    found, expected, remedy : str
    changed : bool
        Whether the show has changed since the list was checked.
    """

    def __init__(self, found: str, expected: str, remedy: str, *, changed: bool = False) -> None:
        super().__init__(f"{found}; expected {expected}; {remedy}")
        self.found = found
        self.expected = expected
        self.remedy = remedy
        self.changed = changed

    def fault(self, show: str, path: str) -> Fault:
        """The fault as one of this show."""
        return Fault(show, path, self.found, self.expected, self.remedy)


@contextmanager
def reading(
    expected: str = "a feature file in a known format", remedy: str = "extract it again"
) -> Iterator[None]:
    """Turn any error while a feature file is read into a `FaultyShowError`.

    All errors but those of the system and of memory are taken for damage, and have `expected` and
    `remedy`: no library documents the errors that a damaged file leads to.
    """
    try:
        yield
    except (GmmcoreError, MemoryError):
        raise
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        if code == errno.ENOMEM:
            raise MemoryError from None
        text = str(error) if code is None else reason_of(error)
        reason = printable(" ".join(text.split())[:200]) or type(error).__name__
        if code is None:
            raise FaultyShowError(f"damaged or truncated ({reason})", expected, remedy) from None
        raise FaultyShowError(
            f"cannot be read ({reason})",
            "a readable feature file",
            "fix the disk or its permissions, or extract it again",
        ) from None


def report(
    faults: Iterable[Fault],
    what: str = "features",
    remedy: str = "fix or remove these shows, or set features: on_error: skip",
) -> str:
    """All faults as one message: a line that counts them, then one line each.

    Of the faults that differ only in numbers and paths, the first three are listed.
    """
    faults = list(faults)
    lines = [f"{what}: {counted(len(faults), 'fault')}; {remedy}"]
    alike: dict[tuple[str, ...], list[Fault]] = {}
    for fault in faults:
        texts = (fault.found, fault.expected, fault.remedy)
        alike.setdefault(tuple(_PARTICULAR.sub("", text) for text in texts), []).append(fault)
    for group in alike.values():
        lines += ["  " + fault.line() for fault in group[:_TOLD]]
        if (more := len(group) - _TOLD) > 0:
            lines.append(f"  and {counted(more, 'more show')} with this fault")
    return "\n".join(lines)


def fault_table(faults: Iterable[Fault]) -> str:
    """The faults as tab-separated text with a header line."""
    head = "\t".join(each.name for each in fields(Fault))
    rows = ["\t".join(map(printable, astuple(fault))) for fault in faults]
    return "\n".join([head, *rows]) + "\n"


def printable(text: str) -> str:
    """`text` on one line and without control characters, for terminals and tables."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
