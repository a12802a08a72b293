"""The graphics processor that this process computes on, and its memory."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any

from gmmcore.core.gpu.choice import is_imitated
from gmmcore.core.gpu.kept import KeptFrames
from gmmcore.errors import GmmcoreError

__all__ = ["Device", "DeviceMemoryError", "find", "prepare", "words_of"]

# Share of the device's memory for frames that are kept.
_KEPT_SHARE = 0.6
# Number of characters for which there is room in the header of a mixture.
_LONGEST_NAME = 40


class DeviceMemoryError(Exception):
    """The memory of the device does not suffice for what was asked of it."""


@dataclass(eq=False)
class Device:
    """A device, and what was learned about its memory.

    Attributes
    ----------
    handle : jax.Device
    kind : str
        Its type, and the versions of what computes on it.
    products : str
        How products of single precision are computed; see `gmmcore.core.gpu.program`.
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

        return jax.local_devices(backend="cpu" if is_imitated() else "cuda")
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
    if is_imitated():
        print(
            "warning: JAX_PLATFORMS is cpu, so that the processor does what a device would",
            file=sys.stderr,
        )
    memory = handle.memory_stats() or {}
    room = int(_KEPT_SHARE * memory["bytes_limit"]) if "bytes_limit" in memory else None
    release = re.findall(r"cuda (\d+)", handle.client.platform_version)
    name = handle.device_kind[:_LONGEST_NAME]
    words = ["jax", jax.__version__, *(f"cuda {number}" for number in release), name]
    return Device(handle, " ".join(words), kept=KeptFrames(room))
