"""The E-step of a GPU against that of the CPU in double precision, and what is said without a GPU.

Without a GPU, its program runs on the CPU. With ``JAX_PLATFORMS=cuda``, a GPU is tried.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from kernel_cases import (
    Case,
    crowded,
    in_unit,
    narrow_and_wide,
    noisy_with_silence,
    overlapping,
    shifted,
    trained,
    with_frame,
)

from gmmcore import GaussianMixture
from gmmcore.core import density, gpu
from gmmcore.core.estep import (
    ESteps,
    accumulate,
    log_likelihood,
    lost_digits,
    parts,
    statistics_over,
    sums_under,
)
from gmmcore.core.frames import ArraySource, Slice
from gmmcore.core.gpu import GpuSums, check_gpu, gpu_name, lacking
from gmmcore.core.initial import one_gaussian, split
from gmmcore.core.kinds import to_kind
from gmmcore.core.moments import Moments
from gmmcore.core.mstep import maximise
from gmmcore.core.settings import MStep
from gmmcore.core.sums import Statistics
from gmmcore.core.train import TrainingSettings, train
from gmmcore.errors import GmmcoreError
from gmmcore.formats.hdf5 import save_model
from gmmcore.workflow.stage import provenance

FREE = MStep(floor=1e-9, ceiling=np.inf, occupancy=0.0)


@pytest.fixture(autouse=True)
def _gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU does what a GPU would, unless `JAX_PLATFORMS=cuda` asks for one."""
    pytest.importorskip("jax")
    monkeypatch.setenv("JAX_PLATFORMS", os.environ.get("JAX_PLATFORMS", "cpu"))
    if (reason := lacking()) is not None:
        pytest.skip(reason)
    gpu._find.cache_clear()


def first(case: Case, frames: int) -> Case:
    return case[0][:frames], case[1]


def with_silence(full: bool) -> Case:
    frames = noisy_with_silence()
    mixture = one_gaussian(Moments.of(frames))
    while mixture.components < 16:
        mixture = split(mixture)
        for _ in range(4):
            mixture = maximise(mixture, accumulate(mixture, frames), MStep(floor=1e-4)).mixture
    return frames, to_kind(mixture, "full") if full else mixture


def too_narrow(full: bool) -> Case:
    """Variances that need double precision, also where single is asked for."""
    rng = np.random.default_rng(22)
    means = rng.standard_normal((4, 3))
    mixture = GaussianMixture.from_covariances(np.full(4, 0.25), means, np.full((4, 3), 1e-7))
    frames = means[rng.integers(4, size=2000)] + np.sqrt(1e-7) * rng.standard_normal((2000, 3))
    return frames.astype("f"), to_kind(mixture, "full") if full else mixture


def one_of(mixture: GaussianMixture, full: bool) -> GaussianMixture:
    return to_kind(mixture, "full") if full else mixture


ORDINARY: dict[str, Callable[[bool], Case]] = {
    "64": lambda full: trained(64, full),
    "128": lambda full: trained(128, full),
    "130": lambda full: trained(130, full),
    "overlapping": overlapping,
    "far from zero": lambda full: shifted(trained(128, full), 1e3),
    "in thousands": lambda full: in_unit(trained(64, full), 1e-3),
    "in thousandths": lambda full: in_unit(trained(64, full), 1e3),
    "narrow and wide": narrow_and_wide,
    "variances of 1e-7": too_narrow,
    "one dimension": lambda full: (
        trained(64, full)[0][:, :1],
        one_of(GaussianMixture([0.4, 0.6], [[-1.0], [1.0]], [[2.0], [3.0]]), full),
    ),
    "1025 frames": lambda full: first(trained(128, full), 1025),
    "2049 frames": lambda full: first(trained(128, full), 2049),
}
"""Cases in which single precision, too, has the log-likelihood to a millionth per frame."""

ODD: dict[str, Callable[[bool], Case]] = {
    "256": lambda full: trained(256, full),
    "1 frame": lambda full: first(trained(128, full), 1),
    "3 frames": lambda full: first(trained(128, full), 3),
    "an outlier": lambda full: with_frame(trained(128, full), 300.0),
    "a frame at 1e4": lambda full: with_frame(trained(128, full), 1e4),
    "a frame at 1e6": lambda full: with_frame(trained(128, full), 1e6),
    "in units of 1e12": lambda full: in_unit(trained(64, full), 1e-12),
    "in units of 1e-12": lambda full: in_unit(trained(64, full), 1e12),
    "silence": with_silence,
    "crowded": lambda full: (crowded()[0], to_kind(crowded()[1], "full") if full else crowded()[1]),
}
CASES = ORDINARY | ODD


def differences(mixture: GaussianMixture, one: Statistics, other: Statistics) -> dict[str, float]:
    """Log-likelihood per frame; weights, means and covariances after the M-step, in deviations."""
    found = {"llk": abs(one.log_likelihood_per_frame - other.log_likelihood_per_frame)}
    used = other.count >= MStep.occupancy
    if not used.any():
        return found
    a, b = (maximise(mixture, statistics, FREE).mixture for statistics in (one, other))
    variances = b.covariances.diagonal(0, 1, 2) if b.is_full else b.covariances
    deviations = np.sqrt(variances)
    scale = deviations[:, :, np.newaxis] * deviations[:, np.newaxis, :] if b.is_full else variances
    found["weights"] = np.abs(a.weights / b.weights - 1)[used].max()
    found["means"] = (np.abs(a.means - b.means) / deviations)[used].max()
    found["covariances"] = (np.abs(a.covariances - b.covariances) / scale)[used].max()
    return found


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_double_precision_is_that_of_the_cpu(name, full):
    frames, mixture = CASES[name](full)
    expected = accumulate(mixture, frames)
    found = accumulate(mixture, frames, device="cuda")
    assert (found.frames, found.is_full) == (len(frames), full)
    np.testing.assert_array_equal(found.origin, expected.origin)
    # A log-likelihood of a million has fewer digits after the point.
    size = max(1.0, 1e-6 * abs(expected.log_likelihood_per_frame))
    scale = max(1.0, float(np.abs(expected.second).max()))
    for sums in ("count", "first", "second"):
        np.testing.assert_allclose(
            getattr(found, sums), getattr(expected, sums), rtol=1e-8, atol=1e-9 * scale
        )
    assert abs(found.log_likelihood - expected.log_likelihood) < 1e-6 * size * len(frames)
    if name in ("a frame at 1e6", "1 frame", "3 frames"):
        return  # Almost nothing is left of the variances.
    for number, value in differences(mixture, found, expected).items():
        assert value < (1e-6 * size if number == "llk" else 1e-5), number


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", ORDINARY)
def test_single_precision_is_near_it(name, full):
    frames, mixture = ORDINARY[name](full)
    expected = accumulate(mixture, frames)
    found = accumulate(mixture, frames, precision="single", device="cuda")
    bounds = {"llk": 1e-6, "weights": 1e-5, "means": 1e-5, "covariances": 2e-5}
    for number, value in differences(mixture, found, expected).items():
        assert value < bounds[number], number


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", ODD)
def test_single_precision_loses_no_more_than_is_said(name, full):
    frames, mixture = ODD[name](full)
    expected = accumulate(mixture, frames).log_likelihood_per_frame
    found = accumulate(mixture, frames, precision="single", device="cuda").log_likelihood_per_frame
    assert found == pytest.approx(expected, rel=1e-6, abs=lost_digits(mixture, "single", 0.0))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_frames_of_either_precision(full, precision, shift):
    """Frames in double precision far from zero keep the digits that they have beside it."""
    frames, mixture = shifted(trained(64, full), shift)
    exact = frames.astype(float) + 1e-4 * np.random.default_rng(1).standard_normal(frames.shape)
    for given in (frames, exact, exact[:, ::-1][:, ::-1], np.asfortranarray(exact)):
        expected = accumulate(mixture, given, precision=precision)
        found = accumulate(mixture, given, precision=precision, device="cuda")
        within = 1e-9 if precision == "double" else 1e-6
        assert differences(mixture, found, expected)["llk"] < within


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("precision", ["single", "double"])
def test_the_log_likelihood_alone_is_that_of_the_statistics(full, precision):
    frames, mixture = trained(130, full)
    of_statistics = accumulate(mixture, frames, precision=precision, device="cuda")
    alone = log_likelihood(mixture, frames, precision=precision, device="cuda")
    within = 1e-7 if precision == "single" else 1e-12
    assert alone == pytest.approx(of_statistics.log_likelihood, rel=within)
    assert alone == pytest.approx(density.log_likelihood(mixture, frames).sum(), rel=within)


def test_no_frames_give_empty_statistics():
    frames, mixture = trained(64, False)
    empty = accumulate(mixture, frames[:0], device="cuda")
    assert (empty.frames, empty.log_likelihood, empty.count.sum()) == (0, 0.0, 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("precision", ["single", "double"])
def test_frames_that_are_not_finite_are_refused_and_named(bad, full, precision):
    frames, mixture = trained(64, full)
    frames = frames.copy()
    frames[5000, 3] = bad
    for function in (accumulate, log_likelihood):
        with pytest.raises(FloatingPointError, match="frames 4096 to 6144 is not finite"):
            function(mixture, frames, precision=precision, device="cuda")


def same_bits(one: Statistics, other: Statistics) -> bool:
    names = ("count", "first", "second", "origin")
    return one.log_likelihood == other.log_likelihood and all(
        getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in names
    )


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("precision", ["single", "double"])
def test_two_runs_have_the_same_bits(full, precision):
    frames, mixture = trained(130, full)
    one, other = (accumulate(mixture, frames, precision=precision, device="cuda") for _ in range(2))
    assert same_bits(one, other)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("precision", ["single", "double"])
def test_parts_that_are_added_one_by_one_have_the_same_bits(full, precision):
    """Jobs compute parts, and one process computes all of them while the next ones are copied."""
    frames, mixture = trained(130, full)
    sums = sums_under(mixture, precision, 0.0, "cuda")
    expected = statistics_over(sums, parts(ArraySource(frames)), map)
    total = 0.0
    for part in parts(ArraySource(frames)):
        total = total + sums.over(part)
    assert same_bits(sums.statistics(total, len(frames)), expected)
    assert same_bits(accumulate(mixture, frames, precision=precision, device="cuda"), expected)


def test_the_number_of_threads_has_no_part():
    frames, mixture = trained(64, True)
    for precision in ("single", "double"):
        given = {"precision": precision, "device": "cuda"}
        expected = accumulate(mixture, frames, **given)
        assert same_bits(accumulate(mixture, frames, threads=3, **given), expected)
        alone = log_likelihood(mixture, frames, **given)
        assert log_likelihood(mixture, frames, threads=3, **given) == alone


def test_several_callers_take_turns():
    frames, mixture = trained(64, False)
    expected = accumulate(mixture, frames, precision="single", device="cuda")
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(
            lambda _: accumulate(mixture, frames, precision="single", device="cuda"), range(20)
        )
        assert all(same_bits(one, expected) for one in found)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("RESOURCE_EXHAUSTED: out of memory\nmore", "the memory of the GPU does not suffice "),
        ("INTERNAL: CUDA_ERROR_OUT_OF_MEMORY\nmore", "the memory of the GPU does not suffice "),
        ("INTERNAL: CUDA_ERROR_LAUNCH_FAILED\nat line 1", "the GPU failed "),
    ],
)
def test_a_failure_of_the_gpu_is_one_line(monkeypatch, said, words):
    import jax

    def fail(*_):
        raise jax.errors.JaxRuntimeError(said)

    monkeypatch.setattr(gpu, "_program", lambda *_: fail)
    frames, mixture = trained(64, False)
    for function in (accumulate, log_likelihood):
        with pytest.raises(GmmcoreError) as raised:
            function(mixture, frames, device="cuda")
        line = str(raised.value)
        assert line.startswith(f"device: {words}({said.splitlines()[0]}); ")
        assert line.endswith("or set device: cpu")
        assert "\n" not in line


class Counting:
    """Frames that count how often they are read."""

    def __init__(self, frames: np.ndarray) -> None:
        self._source = ArraySource(frames)
        self.frames, self.dimension = frames.shape
        self.read_frames = 0

    def read(self, start: int, stop: int) -> np.ndarray:
        self.read_frames += stop - start
        return self._source.read(start, stop)


def test_frames_are_read_once_and_stay_on_the_gpu():
    frames, mixture = trained(64, False)
    training, held_out = Counting(frames), Counting(frames[:3000])
    steps = ESteps(
        lambda _: training,
        precision="single",
        pruning=2e-8,
        device="cuda",
        held_out=lambda _: held_out,
    )
    for _ in range(3):
        found, outside = steps.statistics(mixture, 0), steps.held_out(mixture, 0)
    assert (training.read_frames, held_out.read_frames) == (20_000, 3000)
    assert same_bits(found, accumulate(mixture, frames, precision="single", device="cuda"))
    expected = log_likelihood(mixture, frames[:3000], precision="single", device="cuda")
    assert outside == expected / 3000


def test_frames_of_the_latest_subset_stay_and_no_others():
    frames, mixture = trained(64, False)
    subsets = [Counting(frames), Counting(frames[::2])]
    steps = ESteps(lambda level: subsets[level], precision="single", pruning=0.0, device="cuda")
    for level in (1, 1, 0, 0, 1):
        steps.statistics(mixture, level)
    assert [subset.read_frames for subset in subsets] == [20_000, 2 * 10_000]


def test_what_does_not_fit_is_read_each_time(monkeypatch):
    frames, mixture = trained(64, False)
    room = iter([True, False] + [False] * 100)
    monkeypatch.setattr(gpu, "_has_room", lambda: next(room))
    source = Counting(frames)
    chosen, sums = parts(source), sums_under(mixture, "single", 0.0, "cuda")
    found = [statistics_over(sums, chosen, map) for _ in range(3)]
    assert source.read_frames == 20_000 + 2 * (20_000 - 2048)
    assert same_bits(found[0], found[2])
    assert [bool(part.kept) for part in chosen] == [True] + [False] * 9


@pytest.mark.parametrize(
    ("memory", "has_room"),
    [
        (None, True),
        ({"bytes_in_use": 59, "bytes_limit": 100}, True),
        ({"bytes_in_use": 61, "bytes_limit": 100}, False),
        ({"bytes_in_use": 61}, True),
    ],
)
def test_some_memory_is_left_for_the_work(monkeypatch, memory, has_room):
    handle = SimpleNamespace(memory_stats=lambda: memory)
    monkeypatch.setattr(gpu, "_find", lambda: handle)
    assert gpu._has_room() == has_room


def test_blocks_for_another_mixture_take_the_place_of_those_before(monkeypatch):
    """Another number of components has other blocks, and double precision other numbers."""
    monkeypatch.setattr(gpu, "_LARGEST_BYTES", 1 << 20)
    exact = trained(64, False)[0].astype(float) + 1e-9
    chosen = parts(ArraySource(exact))
    for components in (64, 130, 64):
        mixture = trained(components, False)[1]
        for precision in ("single", "double", "single"):
            sums = sums_under(mixture, precision, 0.0, "cuda")
            found = statistics_over(sums, chosen, map)
            expected = accumulate(mixture, exact, precision=precision, device="cuda")
            assert same_bits(found, expected)
            assert {len(part.kept) for part in chosen} == {1}


class Slotted:
    """A source that has no more than it must."""

    __slots__ = ("dimension", "frames", "values")

    def __init__(self, values: np.ndarray) -> None:
        self.values, (self.frames, self.dimension) = values, values.shape

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.values[start:stop]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", ">f4", ">f8"])
@pytest.mark.parametrize("shift", [0.0, 200.0])
def test_sources_of_any_kind(dtype, shift):
    frames, mixture = shifted(trained(64, False), shift)
    given = Slotted(frames.astype(dtype))
    expected = accumulate(mixture, given)
    assert accumulate(mixture, given, device="cuda").log_likelihood == pytest.approx(
        expected.log_likelihood, rel=1e-12
    )
    # Sums of a source that is no part of another one.
    sums = sums_under(mixture, "double", 0.0, "cuda")
    found = sums.statistics(sums.over(given), given.frames)
    assert found.log_likelihood == pytest.approx(expected.log_likelihood, rel=1e-12)


def test_what_fills_a_block_does_no_harm():
    """A dimension that hardly varies, and is far from zero."""
    frames = np.random.default_rng(1).standard_normal((1500, 2)).astype("f")
    frames[:, 1] = 5.0
    ones = np.ones((2, 2))
    ones[:, 1] = 1e-42
    mixture = GaussianMixture.from_covariances([0.5, 0.5], [[0.0, 5.0], [1.0, 5.0]], ones)
    expected, found = (
        accumulate(mixture, frames, precision="single", device=name) for name in ("cpu", "cuda")
    )
    assert found.is_finite()
    np.testing.assert_allclose(found.count, expected.count, rtol=1e-5)


def test_progress_counts_each_part_once():
    frames, mixture = trained(64, False)
    told: list[tuple[int, int]] = []
    steps = ESteps(
        lambda _: ArraySource(frames),
        precision="double",
        pruning=0.0,
        device="cuda",
        report=lambda *numbers: told.append(numbers),
    )
    silent = accumulate(mixture, frames, device="cuda")
    assert same_bits(steps.statistics(mixture, 0), silent)
    assert told == [(done, 10) for done in range(11)]


def test_a_slice_has_frames_of_its_own():
    frames, mixture = trained(64, False)
    part = Slice(ArraySource(frames), 3000, 9000)
    found = accumulate(mixture, part, device="cuda")
    assert same_bits(found, accumulate(mixture, frames[3000:9000], device="cuda"))


@pytest.mark.parametrize("components", [2, 64, 2048, 65_536])
@pytest.mark.parametrize("full", [False, True])
def test_arrays_of_a_block_are_bounded(components, full):
    mixture = GaussianMixture(
        np.full(components, 1 / components), np.zeros((components, 4)), np.ones((components, 4))
    )
    sums = GpuSums(one_of(mixture, full), "single")
    assert sums.block & (sums.block - 1) == 0
    assert 1024 <= sums.block <= 1 << 17
    assert sums.block == 1024 or 4 * sums.block * max(sums.shape) <= 1 << 28


def rounded(values, bits: int):
    """Round float32 to so many bits after the point, as TF32 (10) does."""
    import jax
    import jax.numpy as jnp

    whole = jax.lax.bitcast_convert_type(values, jnp.uint32)
    drop = 23 - bits
    whole = (whole + (1 << (drop - 1))) & np.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF)
    return jax.lax.bitcast_convert_type(whole, jnp.float32)


@pytest.fixture
def _imitated_products(monkeypatch):
    """Products that are rounded as tensor cores round them, with one part or two of each number."""
    import jax

    real, presets = jax.lax.dot_general, jax.lax.DotAlgorithmPreset

    def imitated(left, right, axes, *, precision, **more):
        if left.dtype != np.float32:
            return real(left, right, axes, precision=precision, **more)
        one = {"precision": presets.F32_F32_F32, **more}
        parts = [(rounded(x, 10), rounded(x - rounded(x, 10), 10)) for x in (left, right)]
        (a, rest_a), (b, rest_b) = parts
        total = real(a, b, axes, **one)
        if precision == presets.TF32_TF32_F32_X3:
            total += real(a, rest_b, axes, **one) + real(rest_a, b, axes, **one)
        return total

    monkeypatch.setattr(jax.lax, "dot_general", imitated)
    monkeypatch.setitem(gpu.PRODUCTS, "tf32", "TF32_TF32_F32")
    gpu._program.cache_clear()
    yield
    gpu._program.cache_clear()


@pytest.mark.usefixtures("_imitated_products")
@pytest.mark.parametrize("full", [False, True])
def test_three_products_of_tf32_are_as_good_as_single_precision_and_one_is_not(full, monkeypatch):
    frames, mixture = trained(128, full)
    expected = accumulate(mixture, frames)
    lost = {}
    for products in ("tf32x3", "tf32"):
        monkeypatch.setattr(GpuSums, "products", products)
        found = accumulate(mixture, frames, precision="single", device="cuda")
        lost[products] = differences(mixture, found, expected)
    assert lost["tf32x3"]["llk"] < 1e-6
    assert max(lost["tf32x3"].values()) < 1e-5
    assert lost["tf32"]["covariances"] > 1e-4


@pytest.mark.parametrize("precision", ["single", "double"])
def test_a_whole_training_ends_where_that_of_the_cpu_does(precision):
    frames, _ = trained(64, False)
    ends = []
    for name in ("cpu", "cuda"):
        settings = TrainingSettings(-np.inf, precision, device=name, frames_per_component=None)
        mixture, history = train(
            frames, 8, (1, 2, 3), 2, settings, held_out=ArraySource(frames[::9])
        )
        ends.append((accumulate(mixture, frames).log_likelihood_per_frame, history[-1].held_out))
    assert ends[1] == pytest.approx(ends[0], abs=1e-5)


class Machine:
    """A machine with a driver, compiled for the test, and packages of JAX."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._monkeypatch = folder, monkeypatch
        monkeypatch.delenv("JAX_PLATFORMS")
        monkeypatch.setattr(gpu, "_DRIVER", "libcuda_that_is_not_there.so.1")

    def install(self, *cuda: int, jax: str = "0.10.2") -> None:
        plugins = [SimpleNamespace(name=f"xla_cuda{number}") for number in cuda]
        other = SimpleNamespace(name="other")
        self._monkeypatch.setattr(metadata, "version", lambda _: jax)
        self._monkeypatch.setattr(metadata, "entry_points", lambda group: [other, *plugins])

    def drive(self, version: int, gpus: int, fault: int = 0) -> None:
        if (compiler := shutil.which("cc")) is None:
            pytest.skip("there is no compiler for the driver")
        source = self._folder / "driver.c"
        source.write_text(
            f"int cuDriverGetVersion(int *v) {{ *v = {version}; return 0; }}\n"
            f"int cuInit(unsigned flags) {{ return {fault}; }}\n"
            f"int cuDeviceGetCount(int *n) {{ *n = {gpus}; return 0; }}\n"
        )
        driver = self._folder / f"driver-{version}-{gpus}-{fault}.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", driver, source], check=True)
        self._monkeypatch.setattr(gpu, "_DRIVER", str(driver))


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    made = Machine(tmp_path, monkeypatch)
    made.install(12)
    return made


def refusal() -> str:
    """The line that asking for a GPU ends in, wherever that happens."""
    lines = set()
    for ask in (check_gpu, gpu_name, lambda: accumulate(*_small(), device="cuda")):
        with pytest.raises(GmmcoreError) as raised:
            ask()
        lines.add(str(raised.value))
    (line,) = lines
    assert "\n" not in line
    assert line.startswith("device: cuda was asked for; ")
    assert line.endswith("or set device: cpu")
    return line


def _small() -> tuple[GaussianMixture, np.ndarray]:
    ones = np.ones((2, 3))
    return GaussianMixture([0.5, 0.5], [[0, 0, 0], [1, 1, 1]], ones), np.zeros((5, 3))


def test_with_a_gpu_nothing_is_lacking(machine):
    machine.drive(12_090, 2)
    assert lacking() is None
    check_gpu()


def test_without_jax(machine, monkeypatch):
    monkeypatch.setattr(gpu, "find_spec", lambda _: None)
    assert "JAX is not installed; pip install --upgrade 'jax[cuda12]'" in refusal()


def test_with_an_old_jax(machine):
    machine.install(12, jax="0.4.38")
    assert "JAX 0.4.38 is installed, 0.9 or newer was expected" in refusal()


@pytest.mark.parametrize("release", ["0.10rc1", "0.9.0.dev3+local", "1.0"])
def test_releases_with_other_names(machine, release):
    machine.install(12, jax=release)
    machine.drive(12_090, 1)
    assert lacking() is None


def test_a_folder_of_the_name_is_not_jax(monkeypatch):
    def fail(_):
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "version", fail)
    assert "JAX of unknown version is installed, 0.9 or newer was expected" in refusal()


def test_what_is_installed_is_found(monkeypatch, tmp_path):
    """JAX and its plugins say so themselves."""
    for name, group in (("xla_cuda99", "jax_plugins"), ("other", "jax_plugins"), ("cuda9", "x")):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}\n")
    monkeypatch.syspath_prepend(tmp_path)
    Machine(tmp_path, monkeypatch).drive(13_000, 1)
    assert "and JAX was installed for CUDA 99; update the driver" in refusal()


def test_with_jax_for_cpus(machine):
    machine.install()
    assert "JAX is installed for CPUs alone; pip install --upgrade 'jax[cuda12]'" in refusal()


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


@pytest.mark.parametrize(("gpus", "fault"), [(0, 0), (1, 100)])
def test_without_a_gpu(machine, monkeypatch, gpus, fault):
    machine.drive(13_000, gpus, fault)
    assert "the driver shows no GPU; go to" in refusal()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "(CUDA_VISIBLE_DEVICES is '')" in refusal()


@pytest.mark.parametrize("error", [RuntimeError("no device\nat all"), AssertionError()])
def test_what_jax_itself_says_is_one_line(machine, monkeypatch, error):
    """A driver that is there, of a GPU that JAX does not know."""

    def fail(backend):
        raise error

    monkeypatch.setattr("jax.local_devices", fail)
    machine.drive(13_000, 1)
    for work in (lambda: accumulate(*_small(), device="cuda"), gpu_name):
        with pytest.raises(GmmcoreError, match=r"device: cuda cannot be used \(.*set dev") as at:
            work()
        assert "\n" not in str(at.value)


def test_the_header_has_room_for_all_that_computed_a_mixture(tmp_path):
    """The longest name of a GPU, too."""
    ones = np.ones((2, 3))
    mixture = GaussianMixture([0.5, 0.5], [[0, 0, 0], [1, 1, 1]], ones)
    facts = provenance(
        stage="full",
        components=100_000,
        iteration=999,
        level=20,
        parent="p" * 64,
        corpus="c" * 64,
        settings="s" * 64,
        device=f"jax 0.10.2 cuda 12090 {'a' * 40}",
        log_likelihood=-123.45678901234567,
        gain=-1.2345678901234567e-10,
        held_out=-123.45678901234567,
        held_out_frames="h" * 64,
    )
    save_model(tmp_path / "x.h5", mixture, facts, ())


def test_where_the_cpu_imitates_a_gpu_a_warning_says_so(monkeypatch, capsys):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert lacking() is None
    import jax

    assert gpu_name() == f"jax {jax.__version__} cpu"
    gpu_name()
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "warning: JAX_PLATFORMS is cpu, so that the CPU does what a GPU would"


def test_nobody_else_loads_jax():
    code = """
import sys
import numpy as np
import gmmcore
frames = np.random.default_rng(1).standard_normal((500, 2))
gmmcore.train(frames, components=2)
import gmmcore.workflow.stage, gmmcore.core.gpu, gmmcore.workflow.runs, gmmcore.workflow.check
gmmcore.workflow.runs.read_runs({"features": {"list": "x"}, "device": "cuda"})
gmmcore.core.gpu.lacking()
print("jax" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
