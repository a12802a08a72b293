"""Whether there is a graphics processor, and whether a training is computed on it.

JAX is not loaded here: to know that there is no device takes no more than a look at the installed
packages and at the driver.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from gmmcore.core.costs import LONG_SECONDS, seconds
from gmmcore.core.history import HistoryEntry
from gmmcore.errors import GmmcoreError

__all__ = [
    "DEVICES",
    "chosen",
    "device_named",
    "followed",
    "is_imitated",
    "kind_of",
    "lacking",
    "one_of",
    "settled",
]

DEVICES = ("auto", "cpu", "cuda")
"""Values of the key `device`."""

_DRIVER = "libcuda.so.1"
_LEAST_JAX = (0, 9)
_EXTRA = "pip install 'gmmcore[gpu]'"


def lacking() -> str | None:
    """Say what lacks for `cuda`, and what to do about it; None if nothing does.

    Where ``JAX_PLATFORMS=cpu`` makes JAX compute on the processor, the programs for devices run
    there too, which is for tests.
    """
    return _lacking(is_imitated())


@functools.cache
def _lacking(imitated: bool) -> str | None:
    if find_spec("jax") is None:
        return f"JAX is not installed; {_EXTRA}"
    release, versions = _installed()
    numbers = re.match(r"(\d+)\.(\d+)", release)
    if numbers is None or tuple(map(int, numbers.groups())) < _LEAST_JAX:
        least = ".".join(map(str, _LEAST_JAX))
        return f"JAX {release} is installed, {least} or newer was expected; {_EXTRA}"
    if imitated:
        return None
    if not versions:
        return f"JAX is installed for processors alone; {_EXTRA}"
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return "this machine has no driver of NVIDIA; go to one that has, or install it"
    cuda, count = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(cuda))
    if cuda.value < 1000 * max(versions):
        return (
            f"the driver knows CUDA {cuda.value // 1000}.{cuda.value % 1000 // 10}, and JAX "
            f"was installed for CUDA {max(versions)}; update the driver, or install "
            "another one of 'jax[cuda12]' and 'jax[cuda13]'"
        )
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"
        return f"the driver shows no device{hidden}; go to a machine or a job that has one"
    return None


def _installed() -> tuple[str, list[int]]:
    """Return the version of JAX, and those of CUDA that it is installed for."""
    # This takes longer to load than all else here.
    from importlib.metadata import PackageNotFoundError, entry_points, version

    names = [one.name for one in entry_points(group="jax_plugins")]
    versions = [int(found[1]) for name in names if (found := re.search(r"cuda(\d+)", name))]
    try:
        return version("jax"), versions
    except PackageNotFoundError:
        return "of unknown version", versions


def is_imitated() -> bool:
    """Whether JAX computes on the processor what a device would."""
    return os.environ.get("JAX_PLATFORMS", "").lower() == "cpu"


def chosen(wanted: str) -> str:
    """Return ``cuda`` or ``cpu`` for a value of the key `device`.

    Raises
    ------
    GmmcoreError
        If there is no such value, or `cuda` is wanted and cannot be had.

    Examples
    --------
    >>> from gmmcore.core.gpu.choice import chosen
    >>> chosen("cpu")
    'cpu'
    """
    if wanted not in DEVICES:
        raise GmmcoreError(f"device: {wanted!r}; expected auto, cpu or cuda; correct it")
    if wanted == "auto":
        return "cuda" if not is_imitated() and lacking() is None else "cpu"
    if wanted == "cuda" and (reason := lacking()) is not None:
        raise GmmcoreError(f"device: cuda was asked for; {reason}, or set device: cpu")
    return wanted


def followed(wanted: str, before: str | None) -> str:
    """Return ``cuda`` or ``cpu`` for a training of which parts may be there already.

    Parameters
    ----------
    wanted : {'auto', 'cpu', 'cuda'}
        With ``auto``, a training goes on where it was begun.
    before : str or None
        What `settled` returns.

    Raises
    ------
    GmmcoreError
        If the device cannot be had.
    """
    if wanted != "auto" or before is None:
        return chosen(wanted)
    if before == "cpu":
        return "cpu"
    if (reason := lacking()) is not None:
        raise GmmcoreError(
            f"device: the training was computed on {before} so far; {reason}, or set device: cpu "
            "to go on with the processor"
        )
    return "cuda"


def device_named(facts: Mapping[str, Any]) -> str | None:
    """Return the device of a training by the facts of its last mixture; None if there is none."""
    words: str | None = facts.get("device", facts.get("chosen"))
    return words


def settled(
    facts: Mapping[str, Any], history: Sequence[HistoryEntry], dimension: int
) -> str | None:
    """Return what a training was computed on so far; None if it is still free to choose.

    It is a device if the last mixture, or one before it, says so. The processor is not named in
    files, whose bytes are those of a training that never had a choice. It is the processor within
    a stage, and after one that took more than a minute on one core.

    Parameters
    ----------
    facts : mapping
        Those of the last mixture: ``device``, ``chosen`` and ``iteration``.
    history : sequence of HistoryEntry
        The iterations that led to it.
    dimension : int
    """
    if words := device_named(facts):
        return words
    spent: dict[tuple[str, int], float] = defaultdict(float)
    for entry in history:
        size = entry.frames, entry.components, dimension
        spent[entry.stage, entry.components] += seconds(*size, full=entry.stage == "full")
    is_long = max(spent.values(), default=0.0) >= LONG_SECONDS
    return "cpu" if facts.get("iteration") or is_long else None


def one_of(devices: Iterable[str | None]) -> str | None:
    """Name one of several devices, and that there are others; None if there is none.

    Examples
    --------
    >>> from gmmcore.core.gpu.choice import one_of
    >>> one_of(["H100", None, "H100"]), one_of(["H100", "A100"])
    ('H100', 'A100 and others')
    """
    known = sorted({device for device in devices if device})
    return f"{known[0]}{' and others' * (len(known) > 1)}" if known else None


def kind_of(words: str | None) -> str:
    """Return ``cuda`` for the words of a device, and ``cpu`` for ``cpu`` or None."""
    return "cpu" if words in (None, "cpu") else "cuda"
