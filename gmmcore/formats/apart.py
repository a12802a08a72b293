"""Calls in a separate process, because some damaged files make the HDF5 library crash.

A server, started with the first call, forks for each call. (`multiprocessing` is not used because
its new processes import the user's script again, which fails unless the script guards its main.)
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from gmmcore.errors import GmmcoreError

__all__ = ["apart"]

T = TypeVar("T")
_lock = threading.Lock()
os.register_at_fork(
    before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
)


def apart(path: object, size: int, function: Callable[..., T], *arguments: Any) -> T:
    """Call `function` in a separate process; its arguments and its result are pickled.

    Parameters
    ----------
    path
        The file that it reads, for messages.
    size
        Size of the file in bytes; the limits of time and memory grow with it.

    Raises
    ------
    Exception
        Any that the function raises; `GmmcoreError` if it crashes, or takes too much time or
        memory.
    """
    with _lock:
        server = _server(os.getpid())
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            pickle.dump((path, size, function, arguments), server.stdin)
            server.stdin.flush()
            result, error = pickle.load(server.stdout)  # noqa: S301
        except BaseException as failure:
            # After an interrupt too: the next call must not read the answer to this one.
            _stop(os.getpid(), server)
            _server.cache_clear()
            if not isinstance(failure, OSError | EOFError | pickle.UnpicklingError):
                raise
            raise GmmcoreError(f"{path}: the process that opens HDF5 files ended") from failure
    if error is not None:
        raise error
    return result


@cache
def _server(owner: int) -> subprocess.Popen[bytes]:
    """The server of the process `owner`; a fork of that process has its own."""
    # The server finds its modules where this process does.
    paths = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", f"from {__name__} import _serve; _serve()"]
    pipe, environment = subprocess.PIPE, os.environ | paths
    server = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment
    )
    atexit.register(_stop, owner, server)
    return server


def _stop(owner: int, server: subprocess.Popen[bytes]) -> None:
    if owner == os.getpid():
        server.kill()
        server.communicate()


def _serve() -> None:
    import h5py  # noqa: F401  the forks have it already

    with contextlib.suppress(EOFError):
        while True:
            sys.stdout.buffer.write(_in_a_fork(*pickle.load(sys.stdin.buffer)))  # noqa: S301
            sys.stdout.buffer.flush()


def _in_a_fork(path: object, size: int, function: Callable[..., Any], arguments: Any) -> bytes:
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        try:
            _limit(size)
            answer = pickle.dumps(_answer(path, function, arguments))
            with open(sending, "wb") as stream:
                stream.write(answer)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(sending)
    with open(receiving, "rb") as answers:
        answer = answers.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        what = "takes too long" if status == -signal.SIGALRM else "makes the HDF5 library crash"
        return pickle.dumps((None, GmmcoreError(f"{path}: damaged: it {what}")))
    return answer


def _answer(path: object, function: Callable[..., Any], arguments: Any) -> tuple[Any, Any]:
    try:
        return function(*arguments), None
    except GmmcoreError as error:
        return None, error
    except MemoryError:
        return None, GmmcoreError(f"{path}: damaged: it takes too much memory")
    except Exception as error:
        return None, RuntimeError(f"{path}: {error!r}")


def _limit(size: int) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(30 + size // 1_000_000)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    room = min([(4 << 30) + 512 * size, *(limit for limit in limits if limit >= 0)])
    resource.setrlimit(resource.RLIMIT_AS, (room, limits[1]))
