"""Trainings killed at random moments and resumed by the same command.

    python tests/soak/chaos.py --runs 200 --seed 1

Every time, one training or two that share stages are made in a folder of their own, with a random
number of cores and of jobs per iteration. They are killed with SIGKILL up to five times: one job,
Snakemake alone (its jobs are orphans then), or all processes at once. The same command is given
again, at once, until it succeeds. All files must then have the bytes of an undisturbed training,
and nothing may be left over.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flows import PLAIN, ROOT, TINY, Workflow, changed

KINDS = ("job", "snakemake", "group")

CONFIG: dict[str, Any] = changed(PLAIN, features={"list": "../corpus/shows.txt"})
TWO = {"run": None, "runs": {"small": {"components": 3}, "other": {"pruning": 0.0}, "large": {}}}
# Stages read a quarter of the frames or so, until the last iteration.
SUBSETS = {"frames_per_component": 4, "iterations": [2, 4]}
FORMS: dict[str, dict[str, Any]] = {"one run": {}, "three runs": TWO, "subsets": SUBSETS}


@dataclass
class Outcome:
    """What happened in one run."""

    number: int
    kills: list[str] = field(default_factory=list)
    commands: int = 0
    wrong: str = ""
    output: str = ""


def make_corpus(folder: Path) -> None:
    """The demonstration corpus of all runs, in a folder `corpus`."""
    folder.mkdir(parents=True, exist_ok=True)
    flow = Workflow(folder)
    flow.configure(TINY)
    flow.run("corpus/shows.txt")


def start(folder: Path, cores: int, output: Any) -> subprocess.Popen[bytes]:
    """Give the command, in a session of its own."""
    flow = Workflow(folder, forked=False)
    return subprocess.Popen(
        flow.command("--cores", str(cores)),
        cwd=folder,
        env={**flow.environment(), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def members(session: int) -> Iterator[tuple[int, str]]:
    """Processes of a session and their command lines."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            status = Path(f"/proc/{entry}/stat").read_text()
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        # After the name, which may hold spaces: state, parent, group, session.
        if int(status.rsplit(")", 1)[1].split()[3]) == session:
            yield int(entry), b" ".join(words).decode(errors="replace")


def kill(process: subprocess.Popen[bytes], kind: str, rng: random.Random) -> str:
    """Kill what is asked for; says what was hit, nothing if there was no such process."""
    found = dict(members(process.pid))
    jobs = {
        pid: words for pid, words in found.items() if "gmmcore " in words and pid != process.pid
    }
    verbs = [
        words.split("bin/gmmcore ", 1)[1].split()[0]
        for words in jobs.values()
        if "bin/gmmcore " in words
    ]
    during = f" during {verbs[0]}" if verbs else ""
    if kind == "job":
        victims = [rng.choice(sorted(jobs))] if jobs else []
    elif kind == "snakemake":
        victims = [process.pid]
    else:
        victims = list(found)
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return f"{kind}{during}" if victims else ""


def end_of(session: int, patience: float = 60.0) -> bool:
    """Wait for all processes of a session to end."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if not list(members(session)):
            return True
        time.sleep(0.05)
    return False


def configuration(form: str, **more: Any) -> dict[str, Any]:
    """The configuration of one run, or of several."""
    values = {**CONFIG, **FORMS[form], **more}
    return {key: value for key, value in values.items() if value is not None}


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of everything that must come out the same."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("results/**/*"))
        if path.is_file() and not path.name.startswith(".")
    }


def leftovers(folder: Path) -> list[str]:
    """Files that nobody needs."""
    return [
        str(path.relative_to(folder))
        for path in folder.glob("results/**/*")
        if path.name.endswith((".stats.h5", ".gmmcore-tmp"))
    ]


def chaotic_run(
    folder: Path,
    number: int,
    seed: int,
    expected: Mapping[str, Mapping[str, str]],
    kills: int,
    latest: float,
) -> Outcome:
    """One command with up to `kills` kills, each at most `latest` seconds after a start."""
    rng = random.Random(f"{seed}/{number}")
    outcome = Outcome(number)
    form = rng.choice(sorted(FORMS))
    config = configuration(form, jobs=rng.choice([1, 2, 3, "auto", "auto"]))
    cores = rng.choice([1, 2, 4])
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    log = folder / "output.txt"
    left = rng.randint(1, kills)
    with open(log, "wb") as output:
        while outcome.commands < kills + 10:
            outcome.commands += 1
            output.write(b"---- command\n")
            output.flush()
            process = start(folder, cores, output)
            killed = ""
            if left:
                moment = rng.uniform(0.2, latest)
                kind = rng.choice(KINDS)
                try:
                    process.wait(moment)
                except subprocess.TimeoutExpired:
                    killed = kill(process, kind, rng)
                    if killed:
                        left -= 1
                        outcome.kills.append(killed)
                        output.write(f"---- killed {killed}\n".encode())
                        output.flush()
            code = process.wait()
            # An orphan may still be at work: the next command meets it.
            if code == 0:
                break
            if not killed:
                outcome.wrong = f"exit code {code} although nothing was killed"
                break
        if not end_of(process.pid):
            outcome.wrong = outcome.wrong or "processes are left"
    found = digests(folder)
    differ = sorted(set(expected[form].items()) ^ set(found.items()))
    if not outcome.wrong and differ:
        outcome.wrong = "other bytes: " + ", ".join(sorted({name for name, _ in differ}))
    if not outcome.wrong and leftovers(folder):
        outcome.wrong = "left over: " + ", ".join(leftovers(folder))
    outcome.output = log.read_text(errors="replace")
    return outcome


def undisturbed(folder: Path) -> tuple[dict[str, dict[str, str]], float]:
    """Digests of what nothing happens to, by form, and the seconds of one run."""
    found, seconds = {}, {}
    for form in FORMS:
        place = folder / form
        place.mkdir(parents=True)
        (place / "config.yaml").write_text(yaml.safe_dump(configuration(form)))
        begin = time.monotonic()
        process = start(place, 2, subprocess.PIPE)
        output, _ = process.communicate()
        if process.returncode:
            raise SystemExit(output.decode())
        found[form], seconds[form] = digests(place), time.monotonic() - begin
    return found, seconds["one run"]


def main() -> int:
    """All runs, and a table of what was killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="number of the first run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=5, help="at most, in a run")
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to; kept if given")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    make_corpus(folder)
    expected, seconds = undisturbed(folder)
    files = ", ".join(f"{len(found)} files of {form}" for form, found in expected.items())
    print(f"undisturbed: {seconds:.1f} s, {files}", flush=True)
    killed: Counter[str] = Counter()
    failed = 0

    def work(number: int) -> Outcome:
        place = folder / f"run{number:04d}"
        return chaotic_run(place, number, arguments.seed, expected, arguments.kills, seconds / 2)

    numbers = range(arguments.first, arguments.first + arguments.runs)
    with ThreadPoolExecutor(arguments.parallel) as pool:
        for done, outcome in enumerate(pool.map(work, numbers), 1):
            killed.update(outcome.kills)
            if outcome.wrong:
                failed += 1
                print(f"run {outcome.number}: {outcome.wrong} ({'; '.join(outcome.kills)})")
                print(outcome.output, flush=True)
            else:
                shutil.rmtree(folder / f"run{outcome.number:04d}")
            if done % 10 == 0:
                print(f"{done} runs, {killed.total()} kills, {failed} failed", flush=True)
    print(f"\n{'killed':40s} times")
    for what, count in sorted(killed.items()):
        print(f"{what:40s} {count:5d}")
    print(f"\n{arguments.runs - failed} of {arguments.runs} runs ended with the same bytes")
    if arguments.folder is None and not failed:
        shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
