"""HDF5 files of unknown origin are opened in a process of their own.

The HDF5 library is not safe against damaged files: some make it write where it may not, and
end the process. So a small server is started with the first such file; for each file it makes a
copy of itself, with limited time and memory, that opens the file and answers with plain arrays.
What dies is the copy. Files that gmmcore sealed are verified instead and need none of this.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from gmmcore.errors import GmmcoreError

__all__ = ["call", "serve"]

Array = npt.NDArray[np.float64]
_FREE_MEMORY = 2 << 30
_START = "from gmmcore.formats.isolated import serve; serve()"


class _Server:
    def __init__(self) -> None:
        # As this process finds its modules, wherever it is started from.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def ask(self, request: bytes, content: bytes) -> tuple[dict[str, Any], bytes]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(request)
        self.process.stdin.write(content)
        self.process.stdin.flush()
        return _receive(self.process.stdout)

    def stop(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self.process.wait()


_lock = threading.Lock()
_server: _Server | None = None
_inherited: list[_Server | None] = []


def call(
    action: str,
    path: str | os.PathLike[str],
    content: bytes,
    prefix: str,
    arrays: Mapping[str, Array] | None = None,
) -> dict[str, Any]:
    """Do something with an HDF5 file in another process.

    Parameters
    ----------
    action
        A key of `gmmcore.formats.hdf5.ACTIONS`.
    path
        For messages.
    content
        The file.
    prefix
        Of the datasets.
    arrays
        What the action needs.

    Returns
    -------
    dict
        What the action returned: arrays, lists of text, or bytes.

    Raises
    ------
    GmmcoreError
        What the action raised; or the file made the HDF5 library crash, or take
        more time or memory than any sound file does.
    """
    facts = {"action": action, "path": os.fspath(path), "prefix": prefix, "content": len(content)}
    request = _packed(facts, arrays or {})
    global _server
    with _lock:
        try:
            _server = _server or _Server()
            reply, data = _server.ask(request, content)
        except (OSError, ValueError, EOFError) as error:
            if _server is not None:
                _server.process.kill()
                _server.stop()
                _server = None
            raise GmmcoreError(
                f"{path}: the process that opens HDF5 files ended ({error or 'no answer'})"
            ) from error
    if "error" in reply:
        raise GmmcoreError(reply["error"])
    return {**reply.get("values", {}), **_arrays(reply, data), "bytes": data}


def serve() -> None:
    """Answer requests on standard input until it ends."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    import h5py  # noqa: F401  the copies have it already

    import gmmcore.formats.hdf5  # noqa: F401

    while True:
        try:
            facts, data = _receive(source)
        except EOFError:
            return
        content = source.read(facts["content"])
        sink.write(_in_a_copy(facts, data, content))
        sink.flush()


def _in_a_copy(facts: dict[str, Any], data: bytes, content: bytes) -> bytes:
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(receiving)
            _limit(len(content))
            with open(sending, "wb") as stream:
                stream.write(_answer(facts, data, content))
            status = 0
        finally:
            os._exit(status)
    os.close(sending)
    with open(receiving, "rb") as stream:
        reply = stream.read()
    _, status = os.waitpid(child, 0)
    if status == 0:
        return reply
    died = os.waitstatus_to_exitcode(status)
    what = "took too long" if -died == signal.SIGALRM else "made the HDF5 library crash"
    return _packed({"error": f"{facts['path']}: damaged: it {what}"}, {})


def _limit(size: int) -> None:
    from gmmcore.formats.sidekit_layout import largest_array

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(30 + size // 1_000_000)
    with open("/proc/self/statm") if os.path.exists("/proc/self/statm") else open(os.devnull) as f:
        pages = int((f.read().split() or ["0"])[0])
    if pages:
        room = pages * resource.getpagesize() + _FREE_MEMORY + 8 * largest_array(size, False)
        limits = [limit for limit in resource.getrlimit(resource.RLIMIT_AS) if limit >= 0]
        resource.setrlimit(
            resource.RLIMIT_AS, (min([room, *limits]), resource.getrlimit(resource.RLIMIT_AS)[1])
        )


def _answer(facts: dict[str, Any], data: bytes, content: bytes) -> bytes:
    from gmmcore.formats.hdf5 import ACTIONS

    try:
        result = ACTIONS[facts["action"]](
            facts["path"], content, facts["prefix"], _arrays(facts, data)
        )
    except GmmcoreError as error:
        return _packed({"error": str(error)}, {})
    except MemoryError:
        return _packed({"error": f"{facts['path']}: damaged: it takes too much memory"}, {})
    except Exception as error:  # told here, or it would look like a crash
        return _packed({"error": f"{facts['path']}: internal error: {error!r}"}, {})
    if isinstance(result, bytes):
        return _packed({}, {}, result)
    values = {name: value for name, value in result.items() if not isinstance(value, np.ndarray)}
    arrays = {name: value for name, value in result.items() if isinstance(value, np.ndarray)}
    return _packed({"values": values}, arrays)


def _packed(facts: dict[str, Any], arrays: Mapping[str, Array], data: bytes = b"") -> bytes:
    shapes = {name: array.shape for name, array in arrays.items()}
    data += b"".join(np.ascontiguousarray(array, "<f8").tobytes() for array in arrays.values())
    line = json.dumps({**facts, "arrays": shapes, "size": len(data)})
    return line.encode() + b"\n" + data


def _receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    facts = json.loads(line)
    data = stream.read(facts["size"])
    if len(data) != facts["size"]:
        raise EOFError
    return facts, data


def _arrays(facts: dict[str, Any], data: bytes) -> dict[str, Array]:
    result, at = {}, 0
    for name, shape in facts["arrays"].items():
        count = math.prod(shape)
        result[name] = np.frombuffer(data, "<f8", count, at).reshape(shape)
        at += 8 * count
    return result


def _stop() -> None:
    global _server
    if _server is not None:
        _server.stop()
        _server = None


def _after_fork() -> None:
    # The pipes belong to the parent; its server is not ours to ask or to stop.
    global _server, _lock
    _inherited.append(_server)
    _server, _lock = None, threading.Lock()


atexit.register(_stop)
os.register_at_fork(after_in_child=_after_fork)
