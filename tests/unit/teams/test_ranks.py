"""Ranks of MPI give the bytes of one process, and end together."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from corpora import make_corpus

from gmmcore.cli.main import main

pytest.importorskip("mpi4py")
MPIEXEC = shutil.which("mpiexec")
pytestmark = pytest.mark.skipif(MPIEXEC is None, reason="there is no mpiexec")
COMPONENTS = 16
# Many pieces, in shards that are not as long as each other.
COUNTS = (40_000, 3, 25_000, 0, 60_000)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"), COUNTS, dimension=4)


@pytest.fixture(scope="module")
def first(corpus, tmp_path_factory):
    """The first mixture of a stage."""
    folder = tmp_path_factory.mktemp("first")
    path = folder / "1.h5"
    assert main(["initialise", "--corpus", str(corpus), "--output", str(path)]) == 0
    for components in (2, 4, 8, COMPONENTS):
        after = folder / f"{components}.h5"
        split = ["split", "--mixture", str(path), "--corpus", str(corpus), "--output", str(after)]
        assert main([*split, "--components", str(components)]) == 0
        path = after
    full = folder / "full.h5"
    assert main(["diag2full", "--mixture", str(path), "--output", str(full)]) == 0
    return {"diag": path, "full": full}


def arguments(folder: Path, start: Path, corpus: Path, *more: str) -> list[str]:
    folder = folder / "run" / "diag" / "16"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(start, folder / "000.h5")
    given = ["iterate", "--mixture", str(folder / "000.h5"), "--corpus", str(corpus)]
    given += ["--iterations", "5", "--final", "--llk-gain", "-1", "--frames-per-component", "100"]
    return [*given, "--output", str(folder.parent / "16.h5"), *more]


def under_mpi(ranks: int, given: list[str], **options) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "gmmcore.cli.main"]
    command = [str(MPIEXEC), "-n", str(ranks), *program, *given, "--ranks", str(ranks)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.h5"))
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["diag", "full"])
@pytest.mark.parametrize("memory", ["4000", "0"])
def test_the_bytes_are_those_of_one_process(corpus, first, tmp_path, kind, memory):
    assert main(arguments(tmp_path / "1", first[kind], corpus)) == 0
    expected = digests(tmp_path / "1")
    assert len(expected) == 7
    for ranks in (2, 3, 5):
        given = arguments(tmp_path / str(ranks), first[kind], corpus, "--memory", memory)
        process = under_mpi(ranks, given)
        output, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
        assert output.count("  iteration ") == 5
        assert digests(tmp_path / str(ranks)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_fewer_pieces_than_ranks(first, tmp_path, monkeypatch, device):
    """The first rank may have none, of the frames to train on and of those that are held out."""
    if device == "cuda":
        pytest.importorskip("jax")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    corpus = make_corpus(tmp_path, (2500, 1200), dimension=4)
    start = tmp_path / "start.h5"
    assert main(["initialise", "--corpus", str(corpus), "--output", str(start)]) == 0
    (tmp_path / "held_out").mkdir()
    outside = make_corpus(tmp_path / "held_out", (1500, 20), dimension=4, seed=2)
    found = []
    for ranks in (1, 2, 3, 5):
        given = arguments(tmp_path / str(ranks), start, corpus, "--held-out", str(outside))
        process = under_mpi(ranks, [*given, "--device", device])
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert "held-out 0.0000" not in output
        found.append(digests(tmp_path / str(ranks)))
    assert found[1:] == found[:1] * 3


@pytest.mark.slow
def test_held_out_frames_among_ranks(corpus, first, tmp_path):
    (tmp_path / "held_out").mkdir()
    outside = make_corpus(tmp_path / "held_out", (7000, 20_000), dimension=4, seed=2)
    more = ["--held-out", str(outside), "--stop-on", "held_out"]
    found = []
    for ranks in (1, 3):
        given = arguments(tmp_path / str(ranks), first["full"], corpus, *more)
        process = under_mpi(ranks, given)
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
        found.append(digests(tmp_path / str(ranks)))
    assert found[0] == found[1]


def test_another_number_of_ranks_than_was_asked_for(corpus, first, tmp_path, capsys):
    assert main(arguments(tmp_path, first["diag"], corpus, "--ranks", "3")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "ranks: 3 were asked for, and MPI started 1; start as many with mpiexec" in line


def test_what_the_leading_rank_meets_is_one_line(first, tmp_path):
    process = under_mpi(3, arguments(tmp_path, first["diag"], tmp_path / "none.json"))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert [line for line in errors.splitlines() if "error" in line] == [
        f"gmmcore iterate: error: {tmp_path}/none.json: cannot be read: No such file or directory"
    ]


def test_what_another_rank_meets_is_one_line(first, tmp_path):
    corpus = make_corpus(tmp_path, COUNTS, dimension=4)
    damaged = tmp_path / "004.npy"
    data = bytearray(damaged.read_bytes())
    data[-40_000] ^= 1
    damaged.write_bytes(data)
    process = under_mpi(2, arguments(tmp_path, first["diag"], corpus))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    (line,) = [line for line in errors.splitlines() if "error" in line]
    assert "004.npy: damaged" in line
    assert not damaged.exists()


@pytest.mark.slow
def test_a_killed_rank_ends_all_and_the_next_start_goes_on(corpus, first, tmp_path):
    more = ["--iterations", "400"]
    process = under_mpi(3, [*arguments(tmp_path, first["diag"], corpus), *more])
    folder = tmp_path / "run" / "diag" / "16"
    deadline = time.monotonic() + 60
    while not (folder / "003.h5").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    ranks = [int(line) for line in children(process.pid)]
    os.kill(ranks[-1], signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode != 0
    done = len(list(folder.glob("[0-9]*.h5"))) - 1
    assert done < 400
    for where, count in ((tmp_path, done + 2), (tmp_path / "other", done + 2)):
        last = ["--iterations", str(count), "--frames-per-component", "100000"]
        assert main([*arguments(where, first["diag"], corpus), *last]) == 0
    assert digests(tmp_path / "run") == digests(tmp_path / "other" / "run")


def children(process: int) -> list[str]:
    """List the ranks below mpiexec."""
    found = subprocess.run(
        ["ps", "-eo", "pid,ppid,args", "--no-headers"], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 2) for line in found.stdout.splitlines()]
    below = {str(process)}
    for _ in range(5):
        below |= {row[0] for row in rows if row[1] in below}
    return [
        row[0]
        for row in rows
        if row[0] in below and "gmmcore.cli.main" in row[2] and "mpiexec" not in row[2]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, -1])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_rank_ends_all(corpus, first, tmp_path, which, number):
    process = under_mpi(3, [*arguments(tmp_path, first["full"], corpus), "--iterations", "400"])
    folder = tmp_path / "run" / "diag" / "16"
    deadline = time.monotonic() + 60
    while not (folder / "002.h5").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    ranks = sorted(map(int, children(process.pid)))
    os.kill(ranks[which], number)
    process.communicate(timeout=60)
    assert process.returncode != 0


@pytest.mark.slow
def test_threads_of_ranks_change_nothing(corpus, first, tmp_path):
    found = []
    for threads in ("1", "3"):
        given = arguments(tmp_path / threads, first["full"], corpus, "--threads", threads)
        process = under_mpi(2, given)
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
        found.append(digests(tmp_path / threads))
    assert found[0] == found[1]
