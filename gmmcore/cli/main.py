"""The command line: ``gmmcore <verb> ...``."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from gmmcore import __version__
from gmmcore.cli.verb import VERBS, Verb
from gmmcore.errors import DamagedFileError, GmmcoreError
from gmmcore.files import date_back

# Steps of a training, which the rules of the workflow call. All other verbs are for users.
_STEPS = (
    "shows shard corpus pack initialise split diag2full iterate stages accumulate maximise finish "
    "recovery checksums products report comparison statistics adapt trials"
)
# Verbs of an earlier version, and what to give instead.
_MOVED = {"plan": "gmmcore plan is now gmmcore status"}
# Signals that asked this process to stop.
_asked_to_stop: list[int] = []


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; return 0, 1 after an error, 2 without a verb, or 130 if it is interrupted."""
    if argv is None:
        argv = sys.argv[1:]
        # SIGTERM has the effect of Ctrl-C, so that no half-written file is left.
        signal.signal(signal.SIGTERM, _stop)
        if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(signal.SIGINT, _stop)
    # Each thread works on blocks of frames with one BLAS thread. Set before numpy is imported, this
    # keeps OpenBLAS from starting others; `single_blas` makes sure.
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ[name] = "1"
    # Characters that a terminal cannot show are printed as escape sequences.
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")
    argv = list(argv)
    chosen = next((word for word in argv if not word.startswith("-")), None)
    try:
        return _run(argv, chosen)
    except GmmcoreError as error:
        message = _removed(error) if isinstance(error, DamagedFileError) else str(error)
    except (MemoryError, ImportError, RuntimeError, SystemError) as error:
        if _asked_to_stop:  # While numpy is imported, it makes an ImportError of an interruption.
            return _stopped(chosen)
        if not _is_out_of_memory(error):
            raise
        message = "out of memory; give the job more, or use more shards"
    except KeyboardInterrupt:
        return _stopped(chosen)
    except BrokenPipeError:
        return 1
    print(f"gmmcore {chosen}: error: {message}", file=sys.stderr)
    return 1


def _stop(number: int, _: object) -> None:
    _asked_to_stop.append(number)
    raise KeyboardInterrupt


def _stopped(chosen: str | None) -> int:
    if _asked_to_stop:  # The process ends; another signal would only add a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(f"gmmcore {chosen}: stopped; nothing half-written is left", file=sys.stderr)
    return 130


def verbs() -> dict[str, Verb]:
    """Load all verbs, and with them numpy, for which signals and BLAS must be set."""
    from gmmcore.cli import demo, features, mixtures, runs, scores, training  # noqa: F401

    return VERBS


def _run(argv: list[str], chosen: str | None) -> int:
    """Parse the arguments, run the verb and return the exit code."""
    if chosen in _MOVED:
        print(_MOVED[chosen], file=sys.stderr)
        return 2
    known = verbs()
    parser = argparse.ArgumentParser(
        prog="gmmcore",
        description="Inspect, convert and score Gaussian mixtures, and make the steps of a "
        "training, which `snakemake` runs.",
        epilog=f"verbs for users:\n{_listed(known.keys() - _STEPS.split())}\n\n"
        f"verbs for the rules of the workflow:\n{_listed(_STEPS.split())}\n\n"
        "`gmmcore VERB --help` explains a verb.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"gmmcore {__version__}"
    parser.add_argument("--version", action="version", version=version, help="print the version")
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB")
    for name, verb in sorted(known.items()):
        subparser = subparsers.add_parser(
            name,
            description=verb.text.replace("%", "%%"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        subparser.add_argument("--log", metavar="FILE", help="also write what is printed to FILE")
        for declare in verb.arguments if name == chosen else ():
            declare(subparser)
    arguments = parser.parse_args(argv)
    if arguments.verb is None:
        parser.print_help()
        return 2
    if arguments.log:
        # A pipe to `tee` would hide the exit code.
        os.makedirs(os.path.dirname(arguments.log) or ".", exist_ok=True)
        log = open(arguments.log, "w", 1, "utf-8", "backslashreplace")  # noqa: SIM115
        sys.stdout, sys.stderr = _Both(sys.stdout, log), _Both(sys.stderr, log)
    if "GMMCORE_JOB" in os.environ:
        date_back(word for word in argv if word != getattr(arguments, "source", None))
    known[arguments.verb].run(arguments)
    return 0


def _listed(names: Iterable[str]) -> str:
    """Return a line for each of some verbs."""
    return "\n".join(f"  {name:<12}{VERBS[name].text.splitlines()[0]}" for name in sorted(names))


def _removed(error: DamagedFileError) -> str:
    """Say what is wrong with a file; a job of the workflow removes it, to have it made again."""
    if "GMMCORE_JOB" not in os.environ:
        return str(error)
    with contextlib.suppress(OSError):
        os.unlink(error.path)
    return f"{error.path}: {error.what}; removed; give the same command again, which makes it anew"


class _Both(io.TextIOBase):
    """Stream whose text is also written to a log."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
        self._stream, self._log = stream, log

    def write(self, text: str) -> int:
        self._log.write(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out, for Python, a library or a new thread."""
    signs = ("failed to map segment", "annot allocate memory", "can't start new thread")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


if __name__ == "__main__":
    sys.exit(main())
