# Files that must be made again. This file has no rules.
#
# Each file records what it was made from and with which settings. Snakemake has such records too,
# but they may be lost, and they do not cover features and damage. If a file is not valid, the job
# that makes it gets one more input: a note with the reason, which is newer than the file. The note
# remains an input.

import functools
import glob
import time

from gmmcore.data.demo import recipe_of
from gmmcore.core.gpu import check_gpu
from gmmcore.workflow.validity import look_at_corpus, run_problems


@functools.cache
def write_notes():
    """Look at all files once, before Snakemake lists folders, and write the notes needed."""
    if workflow.remote_exec:
        return  # This is one job on a cluster; Snakemake itself has looked.
    lists = [prefix() + path for path in LISTS]
    for path in lists:
        if (
            os.path.exists(path)
            and recipe_of(path)[0] is None
            and os.path.getsize(path)
        ):
            sys.exit(
                f"gmmcore: error: {path}: was not made by this workflow, which would write over it "
                "and the features beside it; choose another demo.folder, or remove it"
            )
    places = {name: f"{prefix()}results/{name}" for name in RUNS}
    for name, run in RUNS.items():
        source = os.path.realpath(run.settings.init.from_ or os.devnull)
        for maker, place in places.items():
            if source.startswith(os.path.realpath(place) + os.sep):
                sys.exit(
                    f"gmmcore: error: {run.settings.init.from_}: init.from of run {name} is a result "
                    f"of run {maker}, which this configuration may change; start from a copy of it"
                )
    corpora = {name: f"{prefix()}results/features/{name}" for name in CORPORA}
    folders = [*corpora.values(), *places.values()]
    truths = [f"{os.path.dirname(path)}/truth.h5" for path in lists]
    compared = f"{prefix()}results/{COMPARISON}"
    redate(
        [
            *lists,
            *truths,
            compared,
            *(path for folder in folders for path in below(folder)),
        ]
    )
    # Files that did not change since the last start are not read again.
    recall(f"{prefix()}logs/verified.json")
    # Runs with the same features share the results for their thousands of files.
    frames = {
        name: look_at_corpus(features_of(name), corpora[name], LISTS.get(features.list))
        for name, features in CORPORA.items()
    }
    problems, following = {}, set()
    for name, run in RUNS.items():
        found, after = run_problems(
            run, places[name], *(frames[corpus] for corpus in run.corpora)
        )
        problems |= found
        following |= {*after}
        last = f"{places[name]}/{run.plan[-1].name}.h5"
        is_finished = os.path.exists(last) and last not in {*found, *after}
        # On a cluster, other machines have the devices, and the jobs there look.
        if ON_CLUSTER or is_finished or run.settings.device != "cuda":
            continue
        try:
            check_gpu()
        except GmmcoreError as error:
            sys.exit(f"gmmcore: error: run {name}: {error}")
    finals = {f"{places[run.name]}/ubm.h5" for run in COMPARED}
    changes = finals & {*problems, *following} or not all(map(os.path.exists, finals))
    if COMPARED and changes and os.path.lexists(compared):
        following.add(compared)
    remember(f"{prefix()}logs/verified.json")
    for path, reason in problems.items():
        print(f"{path}: {reason}; it is made again", file=sys.stderr)
        write_note(path, reason)
    # After a checkpoint Snakemake decides again, and forgets the jobs that were to follow.
    for path in following:
        write_note(path, "made from another file that is made again")
    noted = [
        folder + note.removeprefix(note_of(folder))
        for folder in folders
        for note in below(note_of(folder))
        if os.path.isfile(note)
    ]
    withdraw({*lists, compared, *noted} - {*problems, *following})


def below(folder):
    """Yield all files and folders below a folder."""
    return glob.iglob(f"{glob.escape(folder)}/**/*", recursive=True)


def redate(paths):
    """Set the time of files to now if it lies in the future, because a clock was set back.

    Otherwise, files made from them would be older than they are, which Snakemake refuses.
    """
    now = time.time()
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(path).st_mtime > now:
                os.utime(path, (now, now), follow_symlinks=False)


def note_of(path):
    """Return the path of the note that a file must be made again."""
    return f"{prefix()}logs/again/{path.removeprefix(prefix())}"


def is_pending(path):
    """Whether the file has a note, and was not made again since."""
    with contextlib.suppress(OSError):
        note, file = os.stat(note_of(path)), os.lstat(path)
        return (
            note.st_ctime_ns > file.st_ctime_ns and note.st_mtime_ns > file.st_mtime_ns
        )
    return False


def write_note(path, reason):
    """Write a note that is newer than the file, unless the file has a pending one."""
    if is_pending(path):
        return
    number = 1
    with contextlib.suppress(OSError, ValueError, IndexError):
        number += int(Path(note_of(path)).read_text().splitlines()[1])
    # Notes may be thousands, and need not outlive a loss of power: they are not flushed to disk.
    os.makedirs(os.path.dirname(note_of(path)), exist_ok=True)
    # Snakemake also compares contents; the time makes each note different, even without `logs`.
    Path(note_of(path)).write_text(f"{path}: {reason}\n{number}\n{time.time_ns()}\n")
    with contextlib.suppress(
        FileNotFoundError
    ):  # It may be an iteration that is missing.
        if os.lstat(path).st_mtime_ns >= os.stat(note_of(path)).st_mtime_ns:
            os.utime(path, (1, 1))


def withdraw(paths):
    """Withdraw pending notes of an earlier start with another configuration, such as a dry run."""
    for path in paths:
        if is_pending(path):
            note = note_of(path)
            # A note that was an input of the file's job before must remain one.
            if Path(note).read_text().splitlines()[1:2] == ["1"]:
                os.unlink(note)
            else:
                os.utime(note, (1, 1))


def again(pattern):
    """Make an input function that returns the note that a file must be made again, if any."""

    def note(wildcards):
        write_notes()
        name = f"logs/again/{pattern.format(**wildcards)}"
        return name if os.path.exists(prefix() + name) else []

    return note
