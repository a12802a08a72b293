"""The command line: ``gmmcore <verb> ...``."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import TextIO

from gmmcore.errors import GmmcoreError

__all__ = ["main"]

# Only the module of the verb in use is imported, so that jobs start quickly.
VERBS = {
    "accumulate": "sufficient statistics of a part of the shards under a mixture",
    "check": "verify every file of the runs of a configuration",
    "checksums": "SHA-256 of the final files of a run",
    "compare": "compare two mixtures, whatever their formats",
    "convert": "read a mixture in any format and write it in another",
    "corpus": "gather the shards, their faults and their moments",
    "demo": "make the demonstration corpus",
    "diag2full": "turn a diagonal mixture into a full-covariance one",
    "extract": "features of audio files, for those who have none",
    "finish": "the last mixture of a training as the user takes it away",
    "history": "the iterations that led to a mixture as a table",
    "info": "say what a mixture file holds",
    "initialise": "one Gaussian, or a given mixture, to start a training from",
    "iterate": "EM iterations to the end of a stage, each in a file of its own",
    "maximise": "statistics of all shards to the next mixture",
    "recovery": "how close a trained mixture came to a known one",
    "report": "history and plots of a training as one HTML page",
    "shard": "process the shows of one shard and pack their frames",
    "shows": "check the feature list and deal its shows to shards",
    "split": "divide components in two along their largest deviation",
    "validate": "check a configuration",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Parameters
    ----------
    argv
        The arguments without the program's name; by default those of the process.

    Returns
    -------
    int
        The exit code: 0; 1 after an error, which is printed on standard error; 2 if no verb is
        given; 130 after an interruption.
    """
    if argv is None:
        argv = sys.argv[1:]
        # SIGTERM has the effect of Ctrl-C, so that no half-written file is left.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Each thread works on blocks of frames with one BLAS thread. To set this before numpy is
    # imported saves the import of threadpoolctl, which sets it later.
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
        print(f"gmmcore {chosen}: error: {error}", file=sys.stderr)
        return 1
    except SyntaxError as error:
        # If memory runs out while Python compiles a module, it may report a syntax error that is
        # not there (seen with CPython 3.11).
        print(
            f"gmmcore {chosen}: error: {error.filename}, line {error.lineno}: Python cannot read "
            f"this part of gmmcore ({error.msg}): memory ran out, give the job more; or the "
            "installation is damaged, install it again",
            file=sys.stderr,
        )
        return 1
    except (MemoryError, ImportError, RuntimeError, SystemError) as error:
        if not _is_out_of_memory(error):
            raise
        print(
            f"gmmcore {chosen}: error: out of memory; give the job more, or use more shards",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(f"gmmcore {chosen}: stopped; nothing half-written is left", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1


def _run(argv: list[str], chosen: str | None) -> int:
    """Parse the arguments, run the verb and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="gmmcore",
        description="Train, convert and inspect Gaussian mixtures.",
        epilog="`gmmcore VERB --help` explains a verb. The workflow is run by `snakemake`.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB")
    module = None
    for verb, help_text in sorted(VERBS.items()):
        subparser = subparsers.add_parser(verb, help=help_text, description=help_text)
        subparser.add_argument("--log", metavar="FILE", help="also write what is printed to FILE")
        if verb == chosen:
            module = importlib.import_module(f"gmmcore.verbs.{verb}")
            module.configure(subparser)
    arguments = parser.parse_args(argv)
    if arguments.version:
        from gmmcore import __version__

        print(f"gmmcore {__version__}")
        return 0
    if module is None:
        parser.print_help()
        return 2
    if arguments.log:
        # A pipe to `tee` would hide the exit code.
        os.makedirs(os.path.dirname(arguments.log) or ".", exist_ok=True)
        log = open(arguments.log, "w", 1, "utf-8", "backslashreplace")  # noqa: SIM115
        sys.stdout, sys.stderr = _Both(sys.stdout, log), _Both(sys.stderr, log)
    module.run(arguments)
    return 0


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
    signs = (
        "failed to map segment",
        "annot allocate memory",
        "can't start new thread",
        "returned NULL without setting an exception",  # Python's compiler
    )
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


if __name__ == "__main__":
    sys.exit(main())
