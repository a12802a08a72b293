"""Whole runs on a GPU, which the CPU imitates, and their way between the two."""

from __future__ import annotations

from pathlib import Path

import pytest
from flows import PLAIN, Workflow, changed, errors, iterations

from gmmcore.formats.hdf5 import load_model

pytestmark = pytest.mark.slow

# The stage with full covariances reads all frames: only it can be a long one.
GIVEN = changed(PLAIN, device="cuda", held_out=0.3, llk_gain=-1000.0)
LAST = ["full/4/1", "full/4/2"]
HERE = "jax "


@pytest.fixture(autouse=True)
def _imitated(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("jax")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def devices(flow: Workflow) -> list[str | None]:
    """What computed each mixture of the last stages, without versions; None: the CPU."""
    folder = flow.folder / "results/tiny"
    paths = ["diag/4.h5", *(f"full/4/{number:03d}.h5" for number in range(3))]
    found = [load_model(folder / path).facts.get("device") for path in paths]
    return [HERE if words and words.startswith(HERE) else words for words in found]


def lose_the_end(flow: Workflow) -> None:
    for name in ("full/4/002.h5", "full/4.h5", "ubm.h5", "history.tsv", "SHA256SUMS"):
        (flow.folder / "results/tiny" / name).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def on_gpu(trained: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    flow = trained.copy_to(tmp_path_factory.mktemp("device") / "made")
    flow.remove("results", "logs", ".snakemake")
    flow.configure(GIVEN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_PLATFORMS", "cpu")
        flow.run()
    return flow


@pytest.fixture
def changing(on_gpu: Workflow, tmp_path: Path) -> Workflow:
    return on_gpu.copy_to(tmp_path / "copy")


def close(one: Path, other: Path) -> None:
    here, there = (load_model(path) for path in (one, other))
    assert here.digest != there.digest
    for left, right in zip(here.history, there.history, strict=True):
        assert left.log_likelihood == pytest.approx(right.log_likelihood, abs=1e-5)
        assert left.held_out == pytest.approx(right.held_out, abs=1e-5, nan_ok=True)


def test_a_gpu_computes_what_takes_long_and_the_file_says_so(on_gpu, tmp_path):
    assert devices(on_gpu) == [None, None, HERE, HERE]
    warning = "the CPU does what a GPU would"
    assert warning in (on_gpu.folder / "logs/tiny/full/4.log").read_text()
    assert on_gpu.verb("check")[0] == 0
    assert "Nothing to be done" in on_gpu.run()
    plain = on_gpu.copy_to(tmp_path / "plain")
    plain.remove("results", "logs")
    # The CPU computes where nothing is said.
    plain.configure({key: value for key, value in GIVEN.items() if key != "device"})
    plain.run()
    assert devices(plain) == [None] * 4
    close(on_gpu.folder / "results/tiny/ubm.h5", plain.folder / "results/tiny/ubm.h5")


@pytest.mark.parametrize("values", [{"jobs": 3}, {"memory": 0}])
def test_jobs_and_memory_do_not_change_a_byte(changing, on_gpu, values):
    changing.remove("results", "logs")
    changing.configure(GIVEN | values)
    changing.run()
    assert changing.made() == on_gpu.made()


def test_the_device_is_one_of_two(changing):
    changing.configure({**GIVEN, "device": "auto"})
    (line,) = errors(changing.run(code=1))
    assert "device" in line
    assert "cpu" in line
    assert "cuda" in line


@pytest.mark.parametrize("jobs", ["auto", 2])
def test_a_training_goes_on(changing, on_gpu, jobs):
    lose_the_end(changing)
    changing.configure({**GIVEN, "jobs": jobs})
    assert iterations(changing.run()) == LAST[1:]
    assert changing.made() == on_gpu.made()


@pytest.mark.parametrize("jobs", ["auto", 2])
def test_a_training_moves_when_told_so(changing, on_gpu, jobs):
    lose_the_end(changing)
    changing.configure({**GIVEN, "device": "cpu", "jobs": jobs})
    assert iterations(changing.run()) == LAST[1:]
    assert devices(changing) == [None, None, HERE, None]
    assert changing.verb("check")[0] == 0
    close(changing.folder / "results/tiny/ubm.h5", on_gpu.folder / "results/tiny/ubm.h5")
    # And back.
    lose_the_end(changing)
    (changing.folder / "results/tiny/full/4/001.h5").unlink()
    changing.configure({**GIVEN, "jobs": jobs})
    changing.run()
    assert changing.made() == on_gpu.made()


def test_a_change_of_the_device_alone_makes_nothing_anew(changing):
    changing.configure({**GIVEN, "device": "cpu"})
    assert "Nothing to be done" in changing.run()
    assert changing.verb("check")[0] == 0


def test_without_a_gpu_nothing_starts(changing, monkeypatch):
    changing.remove("results", "logs")
    monkeypatch.setenv("JAX_PLATFORMS", "")
    changing.configure(GIVEN)
    (line,) = errors(changing.run(code=1))
    assert line.startswith("gmmcore stages: error: device: cuda was asked for; ")
    assert line.endswith("or set device: cpu")
    assert not (changing.folder / "results/tiny/full/4/001.h5").exists()


def test_without_a_gpu_nothing_starts_of_what_is_to_come(changing, monkeypatch):
    """Also where an earlier training has ended."""
    monkeypatch.setenv("JAX_PLATFORMS", "")
    changing.configure({**GIVEN, "components": 8})
    (line,) = errors(changing.run(code=1))
    assert line.startswith("gmmcore stages: error: device: cuda was asked for; ")
    assert not (changing.folder / "results/tiny/full/8/001.h5").exists()


@pytest.mark.parametrize("wanted", ["cpu", "cuda"])
def test_each_mixture_says_what_computed_it(changing, wanted):
    """A training with more components: what was the last stage before reads a subset, and more."""
    given = {**GIVEN, "full": {"iterations": 0}}
    changing.remove("results/tiny", "logs")
    changing.configure(given)
    changing.run()
    files = sorted((changing.folder / "results/tiny").glob("diag/*/*.h5"))
    before = {path: load_model(path).digest for path in files}
    changing.configure({**given, "components": 8, "device": wanted})
    changing.run()
    files = sorted((changing.folder / "results/tiny").glob("diag/*/*.h5"))
    made = [path for path in files if load_model(path).digest != before.get(path)]
    by_gpu = [path for path in made if "device" in load_model(path).facts]
    assert made
    last = [path for path in made if path.parent.name == "8" and path.name != "000.h5"]
    assert by_gpu == (last if wanted == "cuda" else [])


def test_a_finished_training_needs_no_gpu(changing, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "")
    (changing.folder / "results/tiny/history.tsv").unlink()
    changing.run()
    assert (changing.folder / "results/tiny/history.tsv").exists()


ELSEWHERE = """
import os, sys
if sys.argv[1] == "maximise":
    os.environ["JAX_PLATFORMS"] = ""
os.execv(REAL, sys.argv)
"""


def test_a_job_that_lacks_the_gpu_of_the_others_says_so(changing, monkeypatch):
    """It is to score the held-out frames."""
    changing.remove("results", "logs")
    changing.configure({**GIVEN, "jobs": 2})
    log = changing.wrap_jobs(ELSEWHERE).run(code=1)
    assert "gmmcore maximise: error: device: cuda was asked for; JAX is installed" in log
    assert "Traceback" not in log
    # As the line says; what the GPU has summed is summed once more.
    monkeypatch.setenv("JAX_PLATFORMS", "")
    changing.configure({**GIVEN, "jobs": 2, "device": "cpu"})
    changing.attempt()
    changing.run()
    assert devices(changing) == [None] * 4


def test_a_job_that_scores_no_frames_needs_no_gpu(changing):
    given = {**GIVEN, "held_out": None, "jobs": 2}
    changing.remove("results", "logs")
    changing.configure(given)
    changing.wrap_jobs(ELSEWHERE).run()
    assert devices(changing) == [None, None, HERE, HERE]


def test_programs_are_kept_between_runs(on_gpu, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    flow = on_gpu.copy_to(tmp_path / "copy")
    kept = []
    for _ in range(2):
        lose_the_end(flow)
        flow.run()
        kept.append({path.name for path in (tmp_path / "cache/gmmcore/jax").iterdir()})
    assert any("sums" in name for name in kept[0])
    assert {name for name in kept[1] if "-cache" in name} == {
        name for name in kept[0] if "-cache" in name
    }
