# Files that must be made again. No rule here.
#
# What a file is made by, of what, and with which settings, is written in it. Snakemake's own
# records say it too, but they may be lost, and they know nothing of features and of damage.
# Where a file is not what it should be, the job that makes it has one more input, a note. It does
# not exist yet, and so is made first. The last note of a file remains an input.

import glob
import time

from gmmcore.resume import run_problems

_PROBLEMS = {}


def problem(path):
    """Why a file must be made again; empty if it need not, or has been since Snakemake started."""
    if not _PROBLEMS:
        for run in RUNS.values():
            places = (
                f"{prefix()}results/{name}"
                for name in (run.name, f"features/{run.corpus}")
            )
            folder, corpus = places
            for name, reason in run_problems(
                run, folder, features_of(run), corpus
            ).items():
                _PROBLEMS[name] = reason, changed(name)
        _PROBLEMS[""] = "", None
    reason, when = _PROBLEMS.get(path, ("", None))
    return reason if changed(path) == when else ""


def changed(path):
    """What tells one content of a path from another: its file, and when that changed."""
    try:
        status = os.lstat(path)
        return status.st_ino, status.st_ctime_ns
    except OSError:
        return None


def note(path, number):
    """The note that a file must be made again, for the `number`-th time."""
    return f"logs/again/{path}.{number}"


def newer(status, other):
    """Whether a file was written after another one, and is dated so."""
    return (
        status.st_ctime_ns > other.st_ctime_ns
        and status.st_mtime_ns > other.st_mtime_ns
    )


def again(pattern):
    """An input function: the last note of a file, or a new one if it must be made again."""

    def last_note(wildcards):
        path = pattern.format(**wildcards)
        place = f"{prefix()}{note(path, '')}"
        numbers = [
            int(name[len(place) :]) for name in glob.glob(f"{glob.escape(place)}[0-9]*")
        ]
        number = max(numbers, default=0)
        written = os.stat(f"{place}{number}") if number else None
        if problem(prefix() + path):
            status = os.lstat(prefix() + path)
            # A note newer than the file was made by this very start, or by one that was killed.
            if not written or not newer(written, status):
                return note(path, number + 1)
        # What is made again may not be older than its note.
        if written and written.st_mtime > time.time():
            return note(path, number + 1)
        return note(path, number) if number else []

    return last_note
