"""The graphics processor that an E-step may be computed on, and whether there is one.

JAX computes on it. It is loaded only where a device is used: to know that there is none takes no
more than a look at the installed packages and at the driver.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import sys
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from threading import RLock
from typing import Any

from gmmcore.errors import GmmcoreError

__all__ = [
    "DEVICES",
    "Device",
    "DeviceMemoryError",
    "chosen",
    "find",
    "followed",
    "kind_of",
    "lacking",
    "prepare",
    "words_of",
]

DEVICES = ("auto", "cpu", "cuda")
"""Values of the key `device`."""

_DRIVER = "libcuda.so.1"
_LEAST_JAX = (0, 9)
_EXTRA = "pip install 'gmmcore[gpu]'"
# Share of the device's memory for frames that are kept.
_KEPT_SHARE = 0.6


class DeviceMemoryError(Exception):
    """The memory of the device does not suffice for what was asked of it."""


class KeptFrames:
    """Frames in the memory of a device, for the next iterations.

    Parameters
    ----------
    room : int or None
        Largest number of bytes; None for any number.
    """

    def __init__(self, room: int | None) -> None:
        self._room = room
        self._used = 0
        self._of: OrderedDict[int, tuple[Hashable, dict[int, Any]]] = OrderedDict()

    def of(self, source: object, layout: Hashable) -> Mapping[int, Any]:
        """Return the blocks of a source by their first frames; blocks of another layout are gone.

        The source becomes the one that was used last. Training and held-out frames take turns. So
        those of the source before stay, and those of all others, such as a smaller subset of an
        earlier iteration, are dropped.
        """
        key = id(source)
        if key in self._of and self._of[key][0] != layout:
            self._forget(key)
        if key not in self._of:
            while len(self._of) > 1:
                self._forget(next(iter(self._of)))
            try:
                # Another object may have the number once this one is gone.
                weakref.finalize(source, self._forget, key)
            except TypeError:
                return {}  # An object of which nobody knows when it is gone.
            self._of[key] = layout, {}
        self._of.move_to_end(key)
        return self._of[key][1]

    def keep(self, source: object, start: int, block: Any) -> None:
        """Keep a block of a source, whose blocks were asked for, if there is room."""
        has_room = self._room is None or self._used + block.nbytes <= self._room
        if has_room and id(source) in self._of:
            self._of[id(source)][1][start] = block
            self._used += block.nbytes

    def drop(self) -> bool:
        """Keep nothing from now on; return whether anything was kept."""
        found = self._used > 0
        self._room = 0
        for key in list(self._of):
            self._forget(key)
        return found

    def _forget(self, key: int) -> None:
        _, blocks = self._of.pop(key, (None, {}))
        self._used -= sum(block.nbytes for block in blocks.values())


@dataclass(eq=False)
class Device:
    """A device, and what was learned about its memory.

    Attributes
    ----------
    handle : jax.Device
    kind : str
        Its type, and the versions of what computes on it.
    products : str
        How products of single precision are computed; see `gmmcore.kernels.program`.
    halvings : int
        How often blocks were halved because memory did not suffice.
    kept : KeptFrames
    lock : RLock
        One thread at a time feeds the device.
    """

    handle: Any
    kind: str
    products: str = "float32"
    halvings: int = 0
    kept: KeptFrames = field(default_factory=lambda: KeptFrames(None))
    lock: AbstractContextManager[Any] = field(default_factory=RLock)

    def words(self, precision: str) -> str:
        """Return its type and the path on it, as ``provenance`` holds them."""
        return f"{self.kind} {self.products if precision == 'single' else 'float64'}"

    def make_room(self, error: DeviceMemoryError, block: int, least: int) -> None:
        """Do with less memory after an error: first keep no frames, then halve the blocks.

        Parameters
        ----------
        error : DeviceMemoryError
        block, least : int
            Number of frames in a block, and the least one.

        Raises
        ------
        GmmcoreError
            If the blocks are as small as they can be.
        """
        if self.kept.drop():
            does = "no frames are kept on it"
        elif block > least:
            self.halvings += 1
            does = f"its blocks have {block // 2} frames"
        else:
            raise GmmcoreError(
                f"device: the memory of {self.kind} does not suffice for the smallest blocks "
                f"({error}); end what else uses it, or set device: cpu"
            ) from error
        print(
            f"warning: the memory of the device is full; from now on, {does}",
            file=sys.stderr,
            flush=True,
        )

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute on this device, in double precision where that is asked for.

        Raises
        ------
        DeviceMemoryError
            If the memory of the device does not suffice.
        GmmcoreError
            If the device fails.
        """
        import jax

        try:
            with jax.enable_x64(True), jax.default_device(self.handle):
                yield
        except jax.errors.JaxRuntimeError as error:
            line = (str(error) or repr(error)).splitlines()[0]
            if "RESOURCE_EXHAUSTED" in line or "OUT_OF_MEMORY" in line:
                raise DeviceMemoryError(line) from error
            raise GmmcoreError(
                f"device: {self.kind} failed ({line}); give the same command again, which goes on "
                "after the last iteration, or set device: cpu"
            ) from error


def lacking() -> str | None:
    """Say what lacks for `cuda`, and what to do about it; None if nothing does.

    Where ``JAX_PLATFORMS=cpu`` makes JAX compute on the processor, the programs for devices run
    there too, which is for tests.
    """
    return _lacking(_is_imitated())


@functools.cache
def _lacking(is_imitated: bool) -> str | None:
    if find_spec("jax") is None:
        return f"JAX is not installed; {_EXTRA}"
    release, versions = _installed()
    numbers = re.match(r"(\d+)\.(\d+)", release)
    if numbers is None or tuple(map(int, numbers.groups())) < _LEAST_JAX:
        least = ".".join(map(str, _LEAST_JAX))
        return f"JAX {release} is installed, {least} or newer was expected; {_EXTRA}"
    if is_imitated:
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


def _is_imitated() -> bool:
    return os.environ.get("JAX_PLATFORMS", "").lower() == "cpu"


def chosen(wanted: str) -> str:
    """Return ``cuda`` or ``cpu`` for a value of the key `device`.

    Raises
    ------
    GmmcoreError
        If there is no such value, or `cuda` is wanted and cannot be had.

    Examples
    --------
    >>> from gmmcore.device import chosen
    >>> chosen("cpu")
    'cpu'
    """
    if wanted not in DEVICES:
        raise GmmcoreError(f"device: {wanted!r}; expected auto, cpu or cuda; correct it")
    if wanted == "auto":
        return "cuda" if not _is_imitated() and lacking() is None else "cpu"
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
        What the training was computed on so far: ``cpu`` or the words of a device; None if it is
        still free to choose.

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


def kind_of(words: str | None) -> str:
    """Return ``cuda`` for the words of a device, and ``cpu`` for ``cpu`` or None."""
    return "cpu" if words in (None, "cpu") else "cuda"


def words_of(device: str | None, precision: str) -> str | None:
    """Return the words of the device for ``cuda``, and ``cpu`` or None as they are."""
    return find().words(precision) if device == "cuda" else device


def prepare(place: int = 0) -> None:
    """Set how JAX uses the device, in a program of our own; a notebook's settings are its own.

    Parameters
    ----------
    place : int
        Which one of several processes on this machine this is, so that each uses another device.
    """
    # Jobs that run side by side share a device: none takes all memory before it needs it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    handles = _handles()
    import jax

    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if jax.config.jax_compilation_cache_dir is None and home.is_absolute():
        jax.config.update("jax_compilation_cache_dir", str(home / "gmmcore" / "jax"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if place:
        jax.config.update("jax_default_device", handles[place % len(handles)])


def _handles() -> list[Any]:
    """Return the devices of this machine; loading JAX takes about a second."""
    try:
        import jax

        return jax.local_devices(backend="cpu" if _is_imitated() else "cuda")
    except Exception as error:  # An AssertionError without words is among them.
        words = (str(error) or repr(error)).splitlines()[0]
        raise GmmcoreError(
            f"device: cuda cannot be used ({words}); correct that, or set device: cpu"
        ) from error


@functools.cache
def find() -> Device:
    """Return the device that this process computes on, which is looked for once.

    It is the one that JAX has for its default, or else the first one.

    Raises
    ------
    GmmcoreError
        If none can be used.
    """
    handles = _handles()
    import jax

    default = jax.config.jax_default_device
    handle = default if default in handles else handles[0]
    if _is_imitated():
        print(
            "warning: JAX_PLATFORMS is cpu, so that the processor does what a device would",
            file=sys.stderr,
        )
    memory = handle.memory_stats() or {}
    room = int(_KEPT_SHARE * memory["bytes_limit"]) if "bytes_limit" in memory else None
    release = re.findall(r"cuda (\d+)", handle.client.platform_version)
    words = ["jax", jax.__version__, *(f"cuda {number}" for number in release), handle.device_kind]
    return Device(handle, " ".join(words), kept=KeptFrames(room))
