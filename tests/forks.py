"""`snakemake` and `gmmcore` without the time that it takes to load them.

Whole runs are thousands of short processes that load the same libraries. Here one process loads
them and stays. `command` gives a small script to call in place of a program: the process forks, and
the fork does the work with the script's arguments, folder, environment and open files; the script
ends with its exit code. Two things need the programs themselves: whatever is about processes, such
as signals, and bytes that may not depend on the seed of Python's hashes, which all forks share.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import marshal
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

LOADED = (
    "docutils.parsers.rst.directives.images",
    "docutils.parsers.rst.states",
    "docutils.writers",
    "encodings.idna",
    "encodings.utf_8_sig",
    "gmmcore.core.gpu",
    "gmmcore.workflow.runs",
    "gmmcore.workflow.check",
    "gmmcore.workflow.stamps",
    "graphlib",
    "h5py",
    "packaging.version",
    "pygments.formatters.html",
    "scipy.linalg",
    "smart_open",
    "snakemake.benchmark",
    "snakemake.profiles",
    "snakemake.report.html_reporter",
    "snakemake.storage",
    "yaml",
    "yte",
)
"""What the programs load when they need it."""

SCRIPT = """#!{python} -IS
import marshal, os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
task = marshal.dumps((os.path.basename(sys.argv[0]), sys.argv[1:], os.getcwd(), dict(os.environ)))
socket.send_fds(connection, [len(task).to_bytes(8, "big")], [0, 1, 2])
connection.sendall(task)
code = connection.recv(1)
sys.exit(code[0] if code else "the fork was killed")
"""


@functools.cache
def command(program: str) -> Path:
    """A script that does what a program does; its folder has no other files."""
    folder = _serving()
    script = folder / program / program
    script.parent.mkdir()
    script.write_text(SCRIPT.format(python=sys.executable, address=str(folder / "socket")))
    script.chmod(0o755)
    return script


@functools.cache
def _serving() -> Path:
    """Start the process that is forked; it ends with this one. The folder of its socket."""
    folder = Path(tempfile.mkdtemp(prefix="forks-"))
    process = subprocess.Popen(
        [sys.executable, __file__, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Before numpy is imported: a process that has threads should not fork.
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    atexit.register(process.wait)
    atexit.register(process.stdin.close)
    return folder


def serve(folder: Path) -> None:
    """Load the libraries, and fork at every connection until the standard input is closed."""
    import snakemake.cli

    import gmmcore.cli.main

    for name in LOADED:
        importlib.import_module(name)
    gmmcore.cli.main.verbs()
    snakemake.cli.get_argument_parser()  # Looks for plugins in every folder of modules.
    gc.collect()
    gc.freeze()
    programs = {"snakemake": snakemake.cli.main, "gmmcore": gmmcore.cli.main.main}
    forks = 0
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        listening.listen(64)
        os.write(1, b"ready\n")
        while 0 not in select.select([listening, 0], [], [])[0]:
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _work(connection, programs)
            connection.close()
            forks += 1
            while forks and os.waitpid(-1, os.WNOHANG) != (0, 0):
                forks -= 1
    shutil.rmtree(folder)


def _work(connection: socket.socket, programs: dict[str, Callable[[], Any]]) -> NoReturn:
    """Do what a script asks for, as the program would, and end."""
    size, files, _, _ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as stream:
        task = stream.read(int.from_bytes(size, "big"))
    program, arguments, folder, environment = marshal.loads(task)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [program, *arguments]
    code: Any = 1

    def last() -> None:
        sys.stdout.flush()
        connection.send(bytes([code]))
        os._exit(0)

    atexit.register(last)
    try:
        code = programs[program]() or 0
    except SystemExit as end:
        code = end.code or 0
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
    sys.exit()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
