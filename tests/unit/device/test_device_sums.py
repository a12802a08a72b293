"""The E-step of devices against the processor's in double precision, on the cases of the kernels.

Without a device, its programs run on the processor. ``JAX_PLATFORMS=cuda pytest tests/unit/device``
tries a device.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

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
from gmmcore.config.steps import MStep
from gmmcore.core import density
from gmmcore.core.estep import Expectation, Statistics, accumulate
from gmmcore.core.frames import ArraySource, Slice
from gmmcore.core.gpu import blocks, program
from gmmcore.core.gpu.device import find
from gmmcore.core.gpu.kept import KeptFrames
from gmmcore.core.initial import one_gaussian, split, to_full
from gmmcore.core.kernels import lost_digits, make_kernel
from gmmcore.core.likelihood import LogLikelihood
from gmmcore.core.moments import Moments
from gmmcore.core.mstep import maximise
from gmmcore.core.train import TrainingSettings, train
from gmmcore.errors import GmmcoreError

FREE = MStep(floor=1e-9, ceiling=np.inf, occupancy=0.0)


def first(case: Case, frames: int) -> Case:
    return case[0][:frames], case[1]


def with_silence(full: bool) -> Case:
    frames = noisy_with_silence()
    mixture = one_gaussian(Moments.of(frames))
    while mixture.components < 16:
        mixture = split(mixture)
        for _ in range(4):
            mixture = maximise(mixture, accumulate(mixture, frames), MStep(floor=1e-4)).mixture
    return frames, to_full(mixture) if full else mixture


def too_narrow(full: bool) -> Case:
    """Variances that need double precision, also where single is asked for."""
    rng = np.random.default_rng(22)
    means = rng.standard_normal((4, 3))
    mixture = GaussianMixture.from_covariances(np.full(4, 0.25), means, np.full((4, 3), 1e-7))
    frames = means[rng.integers(4, size=2000)] + np.sqrt(1e-7) * rng.standard_normal((2000, 3))
    return frames.astype("f"), to_full(mixture) if full else mixture


def one_of(mixture: GaussianMixture, full: bool) -> GaussianMixture:
    return to_full(mixture) if full else mixture


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
    "crowded": lambda full: (crowded()[0], to_full(crowded()[1]) if full else crowded()[1]),
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
def test_double_precision_is_that_of_the_processor(name, full):
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
    alone = LogLikelihood(mixture, precision, device="cuda")(frames)
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
def test_frames_that_are_not_finite_are_refused_and_named(bad, full, precision, monkeypatch):
    monkeypatch.setattr(blocks, "_LARGEST_BLOCK", 2048)
    frames, mixture = trained(64, full)
    frames = frames.copy()
    frames[5000, 3] = bad
    with pytest.raises(FloatingPointError, match="frames 4096 to 6144 is not finite"):
        accumulate(mixture, frames, precision=precision, device="cuda")


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


class Meagre:
    """A program that meets the end of the memory with more than so many frames."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        import jax

        self.lengths: list[int] = []
        real = blocks.program

        def meagre(*arguments):
            compute = real(*arguments)

            def guarded(frames, *rest):
                self.lengths.append(len(frames))
                if len(frames) > most:
                    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nmore")
                return compute(frames, *rest)

            return guarded

        monkeypatch.setattr(blocks, "program", meagre)


@pytest.mark.parametrize("frames_given", [20_000, 16_384, 9_000, 8_193, 1_500])
def test_smaller_blocks_have_the_same_sums(monkeypatch, capsys, frames_given):
    """Sums of runs of 1,024 frames are added in pairs, however many a block has."""
    frames, mixture = trained(64, False)
    frames = np.round(frames[:frames_given] * 64) / 64
    whole = accumulate(mixture, frames, device="cuda")
    capsys.readouterr()
    meagre = Meagre(monkeypatch, 1024)
    parts = accumulate(mixture, frames, device="cuda")
    assert meagre.lengths[0] > 1024
    assert meagre.lengths[-1] == 1024
    assert same_bits(whole, parts)
    told = capsys.readouterr().err.splitlines()
    assert "no frames are kept on it" in told[0]
    assert told[-1].endswith("its blocks have 1024 frames")
    assert len(told) == 1 + np.log2(meagre.lengths[0] // 1024)


def test_memory_that_never_suffices_is_one_line(monkeypatch):
    frames, mixture = trained(64, False)
    Meagre(monkeypatch, 0)
    with pytest.raises(GmmcoreError, match=r"does not suffice for the smallest blocks .*set dev"):
        accumulate(mixture, frames, device="cuda")


def test_another_failure_of_the_device_is_one_line(monkeypatch):
    import jax

    def fail(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: CUDA_ERROR_LAUNCH_FAILED\nat line 1")

    monkeypatch.setattr(blocks, "program", lambda *_: fail)
    frames, mixture = trained(64, False)
    with pytest.raises(GmmcoreError, match=r"failed \(INTERNAL: CUDA_ERROR_LAUNCH_FAILED\)"):
        accumulate(mixture, frames, device="cuda")


class Counting:
    """Frames that count how often they are read."""

    def __init__(self, frames: np.ndarray) -> None:
        self._source = ArraySource(frames)
        self.frames, self.dimension = frames.shape
        self.read_frames = 0

    def read(self, start: int, stop: int) -> np.ndarray:
        self.read_frames += stop - start
        return self._source.read(start, stop)


def expectation(mixture: GaussianMixture, source: Counting) -> Statistics:
    made = Expectation(make_kernel(mixture, "single", 2e-8), source, device="cuda")
    return made.finish(made.tree().total)


def test_frames_are_read_once_and_stay_on_the_device(monkeypatch):
    monkeypatch.setattr(blocks, "_LARGEST_BLOCK", 4096)
    frames, mixture = trained(64, False)
    training, held_out = Counting(frames), Counting(frames[:3000])
    for _ in range(3):
        results = [expectation(mixture, source) for source in (training, held_out)]
    assert (training.read_frames, held_out.read_frames) == (20_000, 3000)
    for source, found in zip((training, held_out), results, strict=True):
        given = frames[: source.frames]
        assert same_bits(found, accumulate(mixture, given, precision="single", device="cuda"))


def test_what_does_not_fit_is_read_each_time(monkeypatch):
    monkeypatch.setattr(blocks, "_LARGEST_BLOCK", 4096)
    frames, mixture = trained(64, False)
    room = 3 * 4096 * 12 * 4
    monkeypatch.setattr(find(), "kept", KeptFrames(room))
    source = Counting(frames)
    for _ in range(3):
        expectation(mixture, source)
    assert source.read_frames == 20_000 + 2 * (20_000 - 3 * 4096)


def test_frames_that_are_gone_leave_the_device():
    frames, mixture = trained(64, False)
    kept = find().kept
    for _ in range(5):
        expectation(mixture, Counting(frames))
    assert not kept._of
    assert kept._used == 0


def test_of_three_sources_the_one_of_longest_ago_leaves():
    kept = KeptFrames(None)
    sources = [Counting(np.zeros((1, 1))) for _ in range(3)]
    for index in (0, 1, 0, 2):
        kept.of(sources[index], "layout")
        kept.keep(sources[index], len(kept.of(sources[index], "layout")), np.zeros(index + 1))
    assert set(kept._of) == {id(sources[0]), id(sources[2])}
    assert kept._used == 8 * (1 + 1 + 3)


def test_blocks_for_another_mixture_take_the_place_of_those_before(monkeypatch):
    """Another number of components has other blocks, and double precision other numbers."""
    monkeypatch.setattr(blocks, "_LARGEST_BYTES", 1 << 20)
    exact = trained(64, False)[0].astype(float) + 1e-9
    source = ArraySource(exact)
    kept = find().kept
    for components in (64, 130, 64):
        for precision in ("single", "double", "single"):
            mixture = trained(components, False)[1]
            found = accumulate(mixture, source, precision=precision, device="cuda")
            expected = accumulate(mixture, exact, precision=precision, device="cuda")
            assert same_bits(found, expected)
            shelves = [shelf for _, shelf in kept._of.values()]
            assert kept._used == sum(block.nbytes for shelf in shelves for block in shelf.values())
            assert (
                len({len(block) for block in kept.of(source, kept._of[id(source)][0]).values()})
                == 1
            )


class Slotted:
    """A source that nobody can have a weak reference to."""

    __slots__ = ("dimension", "frames", "values")

    def __init__(self, values: np.ndarray) -> None:
        self.values, (self.frames, self.dimension) = values, values.shape

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.values[start:stop]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", ">f4", ">f8"])
@pytest.mark.parametrize("shift", [0.0, 200.0])
def test_sources_of_any_kind(dtype, shift):
    frames, mixture = shifted(trained(64, False), shift)
    given = frames.astype(dtype)
    expected = accumulate(mixture, Slotted(given))
    found = accumulate(mixture, Slotted(given), device="cuda")
    assert found.log_likelihood == pytest.approx(expected.log_likelihood, rel=1e-12)
    assert not find().kept._of


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


def test_threads_take_turns():
    frames, mixture = trained(64, False)
    expected = accumulate(mixture, frames, precision="single", device="cuda")
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(
            lambda _: accumulate(mixture, frames, precision="single", device="cuda"), range(40)
        )
        assert all(same_bits(one, expected) for one in found)


def test_progress_counts_each_piece_once(monkeypatch):
    frames, mixture = trained(64, False)
    Meagre(monkeypatch, 4096)
    told: list[int] = []
    made = Expectation(make_kernel(mixture, "double", 0.0), ArraySource(frames), device="cuda")
    made.tree(count=told.append)
    assert told == list(range(len(made.pieces)))


@pytest.mark.parametrize("name", ["gpu", None, "CPU", "auto"])
def test_names_of_no_device_are_refused(name):
    with pytest.raises(ValueError, match="'cpu' or 'cuda' was expected"):
        LogLikelihood(trained(64, False)[1], device=name)([[0.0] * 12])


def test_sums_of_several_devices_add_up_to_those_of_one(monkeypatch):
    """Shares of the pieces, as ranks and jobs have them."""
    monkeypatch.setattr(blocks, "_LARGEST_BLOCK", 2048)
    frames, mixture = trained(130, False)
    whole, *parts = (
        Expectation(make_kernel(mixture, "single", 0.0), ArraySource(frames), device="cuda")
        for _ in range(3)
    )
    expected = whole.finish(whole.tree().total)
    half = len(whole.pieces) // 2
    trees = [
        part.tree(1, bounds)
        for part, bounds in zip(parts, [(0, half), (half, len(whole.pieces))], strict=True)
    ]
    for node, sums in trees[1].nodes.items():
        trees[0].add(node, sums)
    assert same_bits(whole.finish(trees[0].total), expected)


def test_a_slice_has_blocks_of_its_own():
    frames, mixture = trained(64, False)
    part = Slice(ArraySource(frames), 3000, 9000)
    found = accumulate(mixture, part, device="cuda")
    assert same_bits(found, accumulate(mixture, frames[3000:9000], device="cuda"))


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
    real = program.product

    def imitated(left, right, axes, batch, algorithm):
        import jax

        if left.dtype != np.float32:
            return real(left, right, axes, batch, algorithm)
        one = jax.lax.DotAlgorithmPreset.F32_F32_F32
        parts = [(rounded(x, 10), rounded(x - rounded(x, 10), 10)) for x in (left, right)]
        (a, rest_a), (b, rest_b) = parts
        total = real(a, b, axes, batch, one)
        if algorithm == jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3:
            total += real(a, rest_b, axes, batch, one) + real(rest_a, b, axes, batch, one)
        return total

    monkeypatch.setattr(program, "product", imitated)
    monkeypatch.setitem(program.PRODUCTS, "tf32", "TF32_TF32_F32")
    program.program.cache_clear()
    yield
    program.program.cache_clear()


@pytest.mark.usefixtures("_imitated_products")
@pytest.mark.parametrize("full", [False, True])
def test_three_products_of_tf32_are_as_good_as_single_precision_and_one_is_not(full, monkeypatch):
    frames, mixture = trained(128, full)
    expected = accumulate(mixture, frames)
    lost = {}
    for products in ("tf32x3", "tf32"):
        monkeypatch.setattr(find(), "products", products)
        found = accumulate(mixture, frames, precision="single", device="cuda")
        lost[products] = differences(mixture, found, expected)
    assert lost["tf32x3"]["llk"] < 1e-6
    assert max(lost["tf32x3"].values()) < 1e-5
    assert lost["tf32"]["covariances"] > 1e-4


@pytest.mark.parametrize("precision", ["single", "double"])
def test_a_whole_training_ends_where_that_of_the_processor_does(precision):
    frames, _ = trained(64, False)
    ends = []
    for name in ("cpu", "cuda"):
        settings = TrainingSettings(-np.inf, precision, device=name, frames_per_component=None)
        mixture, history = train(
            frames, 8, (1, 2, 3), 2, settings, held_out=ArraySource(frames[::9])
        )
        ends.append((accumulate(mixture, frames).log_likelihood_per_frame, history[-1].held_out))
    assert ends[1] == pytest.approx(ends[0], abs=1e-5)
