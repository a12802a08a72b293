"""Types of processor: what is recorded, what is warned of, and `processor`, which pins it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from features_files import write_hdf5

from gmmcore.cli.main import main
from gmmcore.core import processor
from gmmcore.data.check import shard_paths
from gmmcore.errors import GmmcoreError
from gmmcore.formats.hdf5 import load_model, unseal

CHOSEN = ("OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES")
OLDEST = {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "X86_V4 X86_V3"}
NOTHING: dict[str, str] = {}


def _can_pin() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return {"avx2", "fma"} <= set(flags.split()) and bool(
        re.search("openblas", str(processor.in_use()))
    )


needs_haswell = pytest.mark.skipif(not _can_pin(), reason="needs OpenBLAS and a later x86-64")


def verb(where: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess:
    kept = {key: value for key, value in os.environ.items() if key not in CHOSEN}
    return subprocess.run(
        [sys.executable, "-m", "gmmcore.cli.main", *arguments],
        env={**kept, **environment},
        cwd=where,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames, and the first mixture of a stage of eight components."""
    folder = tmp_path_factory.mktemp("started")
    rng = np.random.default_rng(5)
    places = 3 * rng.standard_normal((20, 12))
    frames = places[rng.integers(0, 20, 3000)] + rng.standard_normal((3000, 12))
    write_hdf5(folder / "features/s.h5", "s", frames.astype("f"), None)
    table, corpus = f"{folder}/shows.tsv", f"{folder}/corpus.json"
    given = [f"--list={folder}/features", "--shards=1"]
    assert main(["shows", *given, "--output", table]) == 0
    (shard,) = shard_paths(table).values()
    assert main(["shard", *given, "--shows", table, "--shard", "000", "--output", shard]) == 0
    outputs = ["--output", corpus, "--skipped", f"{folder}/skipped.tsv"]
    assert main(["corpus", "--shows", table, "--on-error", "stop", *outputs]) == 0
    last = f"{folder}/1.h5"
    assert main(["initialise", "--corpus", corpus, "--output", last]) == 0
    for count in (2, 4, 8):
        mixture, last = last, f"{folder}/run/diag/{count}/000.h5"
        assert main(["split", "--mixture", mixture, "--method=sidekit", "--output", last]) == 0
    return folder


@pytest.fixture
def folder(started: Path, tmp_path: Path) -> Path:
    return shutil.copytree(started, tmp_path / "copy")


def iterate(
    folder: Path, environment: dict[str, str], iterations: int, *more: str
) -> subprocess.CompletedProcess:
    return verb(
        folder,
        environment,
        "iterate",
        *("--mixture", "run/diag/8/000.h5", "--corpus", "corpus.json"),
        *("--iterations", str(iterations), "--llk-gain=-1", "--output", "run/diag/8.h5", *more),
    )


def made(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("run/diag/8/*.h5"))}


@pytest.mark.parametrize("first", ["numpy", "scipy.linalg", "scipy.linalg, h5py"])
def test_what_computes_does_not_depend_on_what_is_loaded(first: str) -> None:
    script = f"import {first}; from gmmcore.core.processor import in_use; print(in_use())"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    plain = "from gmmcore.core.processor import in_use; print(in_use())"
    alone = subprocess.run([sys.executable, "-c", plain], capture_output=True, text=True)
    assert found.stdout == alone.stdout != ""


def test_an_iteration_says_what_computed_it(folder: Path) -> None:
    assert iterate(folder, NOTHING, 1).stderr == ""
    facts = unseal(folder / "run/diag/8/001.h5", "mixture")[0]
    assert facts["arithmetic"].startswith(f"numpy {np.__version__}")
    # The next stage starts from it without sums of its own.
    for name, first in (("split --method=sidekit", "16.h5"), ("diag2full", "full.h5")):
        verb(folder, NOTHING, *name.split(), "--mixture", "run/diag/8.h5", "--output", first)
        assert load_model(folder / first).facts["arithmetic"] == facts["arithmetic"]


@needs_haswell
def test_iterations_of_another_type_are_kept_with_a_warning(folder: Path) -> None:
    assert iterate(folder, OLDEST, 2).stderr == ""
    before = made(folder)
    done = iterate(folder, {"OPENBLAS_CORETYPE": "Haswell"}, 3)
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: run/diag/8/002.h5: computed with numpy ")
    assert "Nehalem" in line
    assert "`processor: Haswell`" in line
    after = made(folder)
    assert len(after) == 4
    assert {name: after[name] for name in before} == before


@needs_haswell
def test_a_pinned_type_gives_the_same_bytes_on_any_processor(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    for place, environment in ((folder, NOTHING), (other, {"OPENBLAS_CORETYPE": "Nehalem"})):
        for precision in ("single", "double"):
            more = ("--processor=Haswell", f"--precision={precision}")
            assert iterate(place, environment, 2, *more).stderr == ""
    assert made(folder) == made(other)
    # Iterations that were made without are those of other settings.
    iterate(other, OLDEST, 2)
    free = made(other)
    iterate(other, NOTHING, 2, "--processor=Haswell", "--precision=double")
    assert made(other) == made(folder) != free


@needs_haswell
def test_statistics_of_another_type_are_told(folder: Path) -> None:
    given = ("--mixture", "run/diag/8/000.h5", "--corpus", "corpus.json")
    verb(folder, OLDEST, "accumulate", *given, "--output", "0.stats.h5")
    last = ("--statistics", "0.stats.h5", "--output", "run/diag/8/001.h5")
    done = verb(folder, {"OPENBLAS_CORETYPE": "Haswell"}, "maximise", *given, *last)
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: 0.stats.h5: computed with numpy ")
    found = unseal(folder / "run/diag/8/001.h5", "mixture")[0]["arithmetic"]
    assert re.search("Haswell; numpy .* Nehalem$", found)


def test_a_type_that_cannot_be_had_is_told_in_one_line(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(processor, "_CPUINFO", str(tmp_path / "cpuinfo"))
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags : fpu avx2 fma\n")
    with pytest.raises(GmmcoreError, match="SkylakeX was asked for, and this one has no avx512f"):
        processor.pin("SkylakeX")
    # A process that has numpy already cannot change it any more.
    with pytest.raises(GmmcoreError, match=r"Nehalem was asked for, .* computes with numpy"):
        processor.in_use("Nehalem")
    assert processor.pin(None) is None
