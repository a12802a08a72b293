"""A job ends with the process that started it, however that dies.

Else the jobs of a killed Snakemake would go on, and write among those of the next one.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time

__all__ = ["VARIABLE", "end_with", "own_line"]

VARIABLE = "GMMCORE_SCHEDULER"
"""Environment variable in which a scheduler tells its jobs what to give to `end_with`."""

_MESSAGE = b"gmmcore: error: Snakemake has ended, and so does this job\n"
_POLL_SECONDS = 1.0


def own_line() -> str:
    """What names this process to the jobs it starts."""
    return f"{os.getpid()} {_namespace()}"


def end_with(line: str) -> None:
    """Watch a process from now on, in a thread; when it ends, end this one at once.

    Parameters
    ----------
    line
        What `own_line` gave there. Nothing is watched if the processes of one cannot be seen by
        the other, as in some containers.
    """
    number, _, namespace = line.partition(" ")
    if not number.isdigit() or namespace != _namespace():
        return
    try:
        descriptor: int | None = os.pidfd_open(int(number))
    except ProcessLookupError:
        _end()
    except (AttributeError, OSError):  # neither Linux nor new enough
        descriptor = None
    threading.Thread(
        target=_watch, args=(int(number), descriptor), name="lifeline", daemon=True
    ).start()


def _watch(process: int, descriptor: int | None) -> None:
    if descriptor is not None:
        select.select([descriptor], [], [])
    else:
        with contextlib.suppress(OSError):
            while True:
                os.kill(process, 0)
                time.sleep(_POLL_SECONDS)
    _end()


def _end() -> None:
    # What is being written is a temporary file, which the next writer removes.
    with contextlib.suppress(OSError):
        os.write(2, _MESSAGE)
    os._exit(1)


def _namespace() -> str:
    """What process numbers are valid in: a namespace of a running machine."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return f"{stream.read().strip()}:{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return "-"
