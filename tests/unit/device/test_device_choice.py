"""Which device computes, what is said where there is none, and that nobody else loads JAX."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gmmcore.cli.verbs._common import device_of, note_device
from gmmcore.core.estep import accumulate
from gmmcore.core.gpu import choice
from gmmcore.core.gpu.device import find, prepare
from gmmcore.core.history import HistoryEntry
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.processor import warn_of_others
from gmmcore.core.train import TrainingSettings, train
from gmmcore.errors import GmmcoreError
from gmmcore.formats.hdf5 import save_model
from gmmcore.workflow.provenance import provenance

HERE = "jax 0.10 NVIDIA H100"


def history_of(kind: str, components: int, frames: int) -> tuple[HistoryEntry, ...]:
    """The entries of a stage of eight iterations."""
    nothing = {"log_likelihood": 0.0, "gain": 0.0, "floored": 0, "ceiled": 0, "low_count": 0}
    return tuple(
        HistoryEntry(
            stage=kind,
            components=components,
            iteration=number,
            level=0,
            frames=frames,
            action="",
            smallest_occupancy=0.0,
            **nothing,
        )
        for number in range(1, 9)
    )


@pytest.fixture(autouse=True)
def _forgotten():
    choice._lacking.cache_clear()
    yield
    choice._lacking.cache_clear()


class Machine:
    """A machine with a driver, compiled for the test, and packages of JAX."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._monkeypatch = folder, monkeypatch
        monkeypatch.delenv("JAX_PLATFORMS")
        self.install(12)
        monkeypatch.setattr(choice, "_DRIVER", "libcuda_that_is_not_there.so.1")

    def install(self, *cuda: int, jax: str = "0.10.2") -> None:
        self._monkeypatch.setattr(choice, "_installed", lambda: (jax, [*cuda]))

    def drive(self, version: int, devices: int, fault: int = 0) -> None:
        if (compiler := shutil.which("cc")) is None:
            pytest.skip("there is no compiler for the driver")
        source = self._folder / "driver.c"
        source.write_text(
            f"int cuDriverGetVersion(int *v) {{ *v = {version}; return 0; }}\n"
            f"int cuInit(unsigned flags) {{ return {fault}; }}\n"
            f"int cuDeviceGetCount(int *n) {{ *n = {devices}; return 0; }}\n"
        )
        driver = self._folder / f"driver-{version}-{devices}-{fault}.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", driver, source], check=True)
        self._monkeypatch.setattr(choice, "_DRIVER", str(driver))
        choice._lacking.cache_clear()


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def refusal() -> str:
    """The line that asking for a device ends in; by default, the processor computes instead."""
    assert choice.chosen("auto") == "cpu"
    with pytest.raises(GmmcoreError) as raised:
        choice.chosen("cuda")
    line = str(raised.value)
    assert "\n" not in line
    assert line.startswith("device: cuda was asked for; ")
    assert line.endswith("or set device: cpu")
    return line


def test_with_a_device_it_is_chosen(machine):
    machine.drive(12_090, 2)
    assert choice.lacking() is None
    assert [choice.chosen(wanted) for wanted in choice.DEVICES] == ["cuda", "cpu", "cuda"]


def test_without_jax(machine, monkeypatch):
    monkeypatch.setattr(choice, "find_spec", lambda _: None)
    assert "JAX is not installed; pip install 'gmmcore[gpu]'" in refusal()


def test_with_an_old_jax(machine):
    machine.install(12, jax="0.4.38")
    assert "JAX 0.4.38 is installed, 0.9 or newer was expected" in refusal()


def test_what_is_installed_is_found(monkeypatch, tmp_path):
    """JAX and its plugins say so themselves."""
    for name, group in (("xla_cuda13", "jax_plugins"), ("other", "jax_plugins"), ("cuda9", "x")):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}\n")
    monkeypatch.syspath_prepend(tmp_path)
    jax = pytest.importorskip("jax")
    release, cuda = choice._installed()
    assert release == jax.__version__
    assert 13 in cuda
    assert 9 not in cuda


@pytest.mark.parametrize("release", ["0.10rc1", "0.9.0.dev3+local", "1.0"])
def test_releases_with_other_names(machine, release):
    machine.install(12, jax=release)
    machine.drive(12_090, 1)
    assert choice.lacking() is None


def test_a_folder_of_the_name_is_not_jax(monkeypatch):
    from importlib import metadata

    def fail(_):
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "version", fail)
    assert "JAX of unknown version is installed, 0.9 or newer was expected" in refusal()


def test_with_jax_for_processors(machine):
    machine.install()
    assert "for processors alone; pip install 'gmmcore[gpu]'" in refusal()


def test_without_a_driver(machine):
    assert "no driver of NVIDIA" in refusal()


@pytest.mark.parametrize(
    ("version", "installed", "words"),
    [(11_040, 12, "knows CUDA 11.4"), (12_090, 13, "knows CUDA 12.9")],
)
def test_with_an_old_driver(machine, version, installed, words):
    machine.install(installed)
    machine.drive(version, 1)
    assert f"{words}, and JAX was installed for CUDA {installed}; update the driver" in refusal()


@pytest.mark.parametrize(("devices", "fault"), [(0, 0), (1, 100)])
def test_without_a_device(machine, monkeypatch, devices, fault):
    machine.drive(13_000, devices, fault)
    assert "the driver shows no device; go to" in refusal()
    choice._lacking.cache_clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "(CUDA_VISIBLE_DEVICES is '')" in refusal()


@pytest.mark.parametrize("error", [RuntimeError("no device\nat all"), AssertionError()])
def test_what_jax_itself_says_is_one_line(machine, monkeypatch, error):
    """A driver that is there, of a device that JAX does not know."""

    def fail(backend):
        raise error

    monkeypatch.setattr("jax.local_devices", fail)
    machine.drive(13_000, 1)
    for work in (lambda: accumulate(*_small(), device="cuda"), prepare):
        with pytest.raises(GmmcoreError, match=r"device: cuda cannot be used \(.*set dev") as at:
            work()
        assert "\n" not in str(at.value)


def test_an_unknown_value_is_refused():
    with pytest.raises(GmmcoreError, match="'gpu'; expected auto, cpu or cuda"):
        accumulate(*_small(), device="gpu")


@pytest.mark.parametrize("available", [True, False])
@pytest.mark.parametrize("before", [None, "cpu", HERE])
@pytest.mark.parametrize("wanted", choice.DEVICES)
def test_a_training_goes_on_where_it_was_unless_told(machine, wanted, before, available):
    if available:
        machine.drive(12_090, 1)
    if wanted != "auto":
        expected: str | None = wanted
    elif before == HERE:
        expected = "cuda"
    else:
        expected = "cuda" if available and before is None else "cpu"
    if expected == "cuda" and not available:
        with pytest.raises(GmmcoreError, match="driver of NVIDIA"):
            choice.followed(wanted, before)
    else:
        assert choice.followed(wanted, before) == expected


SHORT = history_of("diag", 64, 10_000)
LONG = history_of("diag", 512, 30_000_000)


@pytest.mark.parametrize(
    ("facts", "history", "expected"),
    [
        ({}, (), None),
        ({}, SHORT, None),
        ({}, SHORT + LONG, "cpu"),
        ({"iteration": 1}, SHORT, "cpu"),
        ({"iteration": 1, "device": HERE}, LONG, HERE),
        ({"chosen": HERE}, LONG, HERE),
        ({"iteration": 2, "chosen": HERE}, LONG, HERE),
    ],
)
def test_what_a_training_was_computed_on(facts, history, expected):
    assert choice.settled(facts, history, 60) == expected


@pytest.mark.parametrize("is_alone", [True, False])
@pytest.mark.parametrize("is_long", [True, False])
@pytest.mark.parametrize("before", [None, "cpu", HERE])
@pytest.mark.parametrize("wanted", [None, "cpu", "auto"])
def test_without_a_device_jobs_that_share_an_iteration_do_as_one_alone(
    machine, wanted, before, is_long, is_alone
):
    course = SimpleNamespace(takes_long=lambda *_: is_long)
    facts = {"device": HERE} if before == HERE else {"iteration": int(before == "cpu")}
    model = SimpleNamespace(facts=facts, history=())
    corpus = SimpleNamespace(frames=1, dimension=1)
    given = SimpleNamespace(device=wanted), model, corpus, course
    if (wanted, before) == ("auto", HERE):
        with pytest.raises(GmmcoreError, match="was computed on jax"):
            device_of(*given, is_alone=is_alone)
        return
    has_choice = wanted == "cpu" or (wanted == "auto" and (is_long or before == "cpu"))
    assert device_of(*given, is_alone=is_alone) == ("cpu" if has_choice else None)


@pytest.mark.parametrize(
    ("computed_by", "before", "noted", "line"),
    [
        (None, {}, (None, None), ""),
        (None, {"iteration": 1}, (None, None), ""),
        ("cpu", {}, (None, None), ""),
        ("cpu", {"iteration": 1}, (None, None), ""),
        (HERE, {}, (HERE, None), f"device: {HERE}\n"),
        (HERE, {"device": HERE}, (HERE, None), f"device: {HERE}\n"),
        (None, {"device": HERE}, (None, HERE), "device: the processor, because the stage is sho"),
        (None, {"chosen": HERE}, (None, HERE), "device: the processor, because the stage is sho"),
        ("cpu", {"chosen": HERE}, (None, None), "device: the training goes on with cpu; before, "),
        (HERE, {"iteration": 1}, (HERE, None), f"device: the training goes on with {HERE}; befo"),
    ],
)
def test_what_is_noted_and_said(capsys, computed_by, before, noted, line):
    model = SimpleNamespace(facts=before, history=(), mixture=SimpleNamespace(dimension=60))
    assert note_device(computed_by, model) == noted
    told = capsys.readouterr().out
    assert told.startswith(line)
    assert bool(told) == bool(line)


def test_the_header_has_room_for_all_that_computed_a_mixture(tmp_path):
    """Types of processors, and the longest names of devices."""
    ones = np.ones((2, 3))
    mixture = GaussianMixture([0.5, 0.5], [[0, 0, 0], [1, 1, 1]], ones)
    devices = [f"jax 0.10.2 cuda 12090 {letter * 40} float32" for letter in "ab"]
    types = [f"numpy 2.4.6 X86_V4, openblas 0.3.31.188.0 Cooperlake{n}" for n in range(6)]
    facts = provenance(
        stage="full",
        components=100_000,
        iteration=999,
        level=20,
        parent="p" * 64,
        corpus="c" * 64,
        settings="s" * 64,
        arithmetic=warn_of_others("x.h5", types[1:], types[0]),
        device=choice.one_of(devices),
        log_likelihood=-123.45678901234567,
        gain=-1.2345678901234567e-10,
        allowance=1.2345678901234567e-10,
        step="plain",
        held_out=-123.45678901234567,
        held_out_gain=-1.2345678901234567e-10,
        held_out_frames="h" * 64,
    )
    save_model(tmp_path / "x.h5", mixture, facts, ())


def test_where_the_processor_imitates_a_device_only_those_who_ask_get_it(monkeypatch, capsys):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert [choice.chosen(wanted) for wanted in choice.DEVICES] == ["cpu", "cpu", "cuda"]
    assert "cpu" in find().words("single")
    assert "the processor does what a device would" in capsys.readouterr().err


def test_short_stages_of_a_training_need_no_device(machine):
    machine.drive(12_090, 1)
    frames = np.random.default_rng(1).standard_normal((100, 2))
    settings = TrainingSettings(device="auto")
    assert train(frames, 2, (1,), settings=settings)[0].components == 2


def _small():
    ones = np.ones((2, 3))
    return GaussianMixture([0.5, 0.5], [[0, 0, 0], [1, 1, 1]], ones), np.zeros((5, 3))


@pytest.mark.parametrize("device_of_run", ["cpu", "auto"])
def test_nobody_else_loads_jax(device_of_run):
    code = f"""
import sys
import numpy as np
import gmmcore
frames = np.random.default_rng(1).standard_normal((500, 2))
gmmcore.train(frames, components=2, device={device_of_run!r})
import gmmcore.cli.verbs.iterate, gmmcore.workflow.runs, gmmcore.workflow.validity
gmmcore.workflow.runs.read_runs({{"features": {{"list": "x"}}, "device": "auto"}})
print("jax" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
