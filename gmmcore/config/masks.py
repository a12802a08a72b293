"""Masks in SIDEKIT's notation, which choose coefficients: ``[0-4,7,10-12]``."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["parse_mask"]

_LARGEST = 100_000


def parse_mask(value: Any) -> tuple[int, ...]:
    """Return the numbers of the coefficients to keep, from 0, sorted and without repetition.

    Parameters
    ----------
    value : str or sequence of int
        Text such as ``[0-4,7]``, with or without brackets, or a list of numbers.

    Raises
    ------
    ValueError
        If `value` is not valid, or chooses no coefficient.

    Examples
    --------
    >>> from gmmcore.config.masks import parse_mask
    >>> parse_mask("[0-4,7]")
    (0, 1, 2, 3, 4, 7)
    """
    chosen: set[int] = set()
    if isinstance(value, str):
        for part in value.strip().removeprefix("[").removesuffix("]").split(","):
            match = re.fullmatch(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?", part)
            if match is None:
                raise ValueError("expected numbers and ranges such as [0-4,7]")
            first = int(match[1])
            last = int(match[2]) if match[2] else first
            if last < first:
                raise ValueError(f"the range {part.strip()} ends before it begins")
            chosen.update(range(first, min(last, _LARGEST) + 1))
    elif isinstance(value, list | tuple) and all(
        isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in value
    ):
        chosen.update(value)
    else:
        raise ValueError("expected numbers and ranges such as [0-4,7]")
    if not chosen:
        raise ValueError("chooses no coefficient")
    if max(chosen) >= _LARGEST:
        raise ValueError(f"coefficients are numbered from 0 to below {_LARGEST}")
    return tuple(sorted(chosen))
