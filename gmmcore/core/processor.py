"""The type of processor that numbers are computed for, which decides their last bits.

numpy and OpenBLAS choose their code by the processor when they are loaded, and a sum of products
has other last bits with instructions of another width. The environment can make them choose the
code of an older type, which all newer ones run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gmmcore.errors import GmmcoreError

__all__ = ["PROCESSORS", "in_use", "pin", "warn_of_others"]

_CPUINFO = "/proc/cpuinfo"
# As many as there is room for in the header of a mixture, with all else that it may hold.
_MOST_NAMED = 3


@dataclass(frozen=True)
class _Type:
    """A type of processor that can be asked for.

    Attributes
    ----------
    flags : tuple of str
        What a processor must have, in the words of Linux.
    without : str
        Features that numpy must do without, in the words of numpy 2.4 and of older ones.
    """

    flags: tuple[str, ...]
    without: tuple[str, str] = ("", "")


PROCESSORS = {
    "Haswell": _Type(("avx2", "fma"), ("X86_V4", "AVX512_SKX AVX512F")),
    "SkylakeX": _Type(("avx512f", "avx512bw", "avx512dq", "avx512vl")),
}
"""Types that the key `processor` may name, in the words of OpenBLAS."""


def pin(name: str | None) -> None:
    """Set the environment so that numpy and OpenBLAS, once loaded, compute as on this type.

    Raises
    ------
    GmmcoreError
        If this processor lacks an instruction of that type.
    """
    wanted = PROCESSORS.get(name or "")
    if wanted is None:
        return  # Another name is refused where the settings are read.
    try:
        lines = Path(_CPUINFO).read_text(encoding="utf-8", errors="replace").splitlines()
        flags = next((line.split() for line in lines if line.startswith("flags")), None)
    except OSError:
        flags = None
    lacking = [] if flags is None else [flag for flag in wanted.flags if flag not in flags]
    if lacking:
        raise GmmcoreError(
            f"processor: {name} was asked for, and this one has no {', '.join(lacking)}; expected "
            "one that has; choose an older type, or keep the jobs from this machine"
        )
    os.environ["OPENBLAS_CORETYPE"] = str(name)
    if any(wanted.without):
        from importlib.metadata import version

        release = tuple(int(part) for part in version("numpy").split(".")[:2])
        given = os.environ.get("NPY_DISABLE_CPU_FEATURES", "")
        without = f"{given} {wanted.without[release < (2, 4)]}".strip()
        os.environ["NPY_DISABLE_CPU_FEATURES"] = without


def in_use(wanted: str | None = None) -> str:
    """Say in a few words what computes in this process, as ``provenance`` holds it.

    Parameters
    ----------
    wanted : str, optional
        Type that it must be.

    Raises
    ------
    GmmcoreError
        If it is another type.
    """
    import numpy as np

    from gmmcore.core.parallel import blas

    numpy_code = _numpy_code()
    # Where scipy is loaded, its own BLAS is there too, and the order of the two may be any.
    found = sorted(
        blas().info(),
        key=lambda one: ("numpy" not in Path(one["filepath"]).parent.name, one["filepath"]),
    )[:1]
    core = found[0].get("architecture", "") if found else ""
    words = [f"numpy {np.__version__} {numpy_code}".strip()]
    words += [f"{one['internal_api']} {one['version']} {core}".strip() for one in found]
    text = ", ".join(words)
    wide = wanted == "Haswell" and any(sign in numpy_code for sign in ("V4", "512"))
    if wanted is not None and (core != wanted or wide):
        raise GmmcoreError(
            f"processor: {wanted} was asked for, and this process computes with {text}; expected "
            "numpy with OpenBLAS, not loaded before the type was set; use its usual packages, "
            "or leave the key out"
        )
    return text


def warn_of_others(place: str | Path, others: Iterable[str | None], now: str) -> str:
    """Print a warning if something was computed by another type; return what all was computed by.

    Parameters
    ----------
    place
        File that was computed elsewhere, for the message.
    others
        What `in_use` returned elsewhere; None where nothing was recorded.
    now
        What it returned here.
    """
    known = sorted({now, *(other for other in others if other)})
    if len(known) > 1:
        there = "; ".join(other for other in known if other != now)
        print(
            f"warning: {place}: computed with {there}; here it is {now}; the last bits are those "
            "of no single machine; `processor: Haswell` makes machines equal",
            file=sys.stderr,
        )
    return "; ".join(known[:_MOST_NAMED]) + " and others" * (len(known) > _MOST_NAMED)


def _numpy_code() -> str:
    """Return the type of numpy's code for exponentials, such as X86_V4; empty if it is old."""
    try:
        from numpy.lib.introspect import opt_func_info
    except ImportError:
        return ""
    return str(opt_func_info(func_name="^exp$")["exp"]["dd"]["current"])
