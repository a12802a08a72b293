"""The sums of the E-step on a GPU, by JAX, which is loaded when a GPU is asked for.

One program computes what `gmmcore.core.sums` computes on a CPU, from the same coefficients, with
all components of all frames. Frames stay on the GPU from one iteration to the next as long as
there is room.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.core.frames import FrameSource, Slice, weights_of
from gmmcore.core.kinds import AnyArray, Array, Full
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.parallel import Map
from gmmcore.core.sums import Sums, checked
from gmmcore.errors import GmmcoreError

_DRIVER = "libcuda.so.1"
_LEAST_JAX = (0, 9)
_EXTRA = "pip install --upgrade 'jax[cuda12]'"
# Share of the memory of a GPU for frames that stay there.
_KEPT_SHARE = 0.6
# Frames whose products are added in the precision of the products; the sums of runs are float64.
RUN = 1024
# Largest number of bytes of an array of a block, of which a few are in use at a time.
_LARGEST_BYTES = 1 << 28
_LARGEST_BLOCK = 1 << 17
# Blocks that wait for the GPU: while one is computed, the next one is copied.
_WAITING = 2
# The matrices have widths that are multiples of this, as tensor cores like them.
_ALIGNED = 8
PRODUCTS = {"float32": "F32_F32_F32", "tf32x3": "TF32_TF32_F32_X3", "bf16x6": "BF16_BF16_F32_X6"}
"""Ways to multiply matrices of float32, and their names in `jax.lax.DotAlgorithmPreset`."""


def check_gpu() -> None:
    """Raise an error of one line where no GPU can be used, without loading JAX."""
    if (reason := lacking()) is not None:
        raise GmmcoreError(f"device: cuda was asked for; {reason}, or set device: cpu")


def lacking() -> str | None:
    """Say what a GPU lacks, and what to do about it; None if nothing is lacking."""
    if find_spec("jax") is None:
        return f"JAX is not installed; {_EXTRA}"
    # This takes longer to load than all else here.
    from importlib.metadata import PackageNotFoundError, entry_points, version

    try:
        release = version("jax")
    except PackageNotFoundError:
        release = "of unknown version"
    numbers = re.match(r"(\d+)\.(\d+)", release)
    if numbers is None or tuple(map(int, numbers.groups())) < _LEAST_JAX:
        least = ".".join(map(str, _LEAST_JAX))
        return f"JAX {release} is installed, {least} or newer was expected; {_EXTRA}"
    if _is_imitated():
        return None
    plugins = [re.search(r"cuda(\d+)", one.name) for one in entry_points(group="jax_plugins")]
    versions = [int(found[1]) for found in plugins if found]
    if not versions:
        return f"JAX is installed for CPUs alone; {_EXTRA}"
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return "this machine has no driver of NVIDIA; go to one that has, or install it"
    cuda, count = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(cuda))
    if cuda.value < 1000 * max(versions):
        return (
            f"the driver knows CUDA {cuda.value // 1000}.{cuda.value % 1000 // 10}, and JAX "
            f"was installed for CUDA {max(versions)}; update the driver, or install "
            "another one of 'jax[cuda12]' and 'jax[cuda13]'"
        )
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"
        return f"the driver shows no GPU{hidden}; go to a machine or a job that has one"
    return None


def _is_imitated() -> bool:
    """Whether JAX computes on the CPU what a GPU would, which is for tests."""
    return os.environ.get("JAX_PLATFORMS", "").lower() == "cpu"


@functools.cache
def _find() -> Any:
    """Return the GPU of this process: the one that JAX has for its default, or the first one."""
    check_gpu()
    # Jobs that run side by side share a GPU: none takes all memory before it needs it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        import jax

        handles = jax.local_devices(backend="cpu" if _is_imitated() else "cuda")
    except Exception as error:  # An AssertionError without words is among them.
        words = (str(error) or repr(error)).splitlines()[0]
        raise GmmcoreError(
            f"device: cuda cannot be used ({words}); correct that, or set device: cpu"
        ) from error
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if jax.config.jax_compilation_cache_dir is None and home.is_absolute():
        jax.config.update("jax_compilation_cache_dir", str(home / "gmmcore" / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if _is_imitated():
        print(
            "warning: JAX_PLATFORMS is cpu, so that the CPU does what a GPU would", file=sys.stderr
        )
    default = jax.config.jax_default_device
    return default if default in handles else handles[0]


def gpu_name() -> str:
    """Return the type of the GPU, and the versions of what computes on it, for provenance."""
    handle = _find()
    import jax

    release = re.findall(r"cuda (\d+)", handle.client.platform_version)
    cuda = [f"cuda {number}" for number in release]
    return " ".join(["jax", jax.__version__, *cuda, handle.device_kind[:40]])


@contextmanager
def _computing() -> Iterator[None]:
    """Compute on the GPU, in double precision where that is asked for."""
    handle = _find()
    import jax

    try:
        with jax.enable_x64(True), jax.default_device(handle):
            yield
    except jax.errors.JaxRuntimeError as error:
        line = (str(error) or repr(error)).splitlines()[0]
        if "RESOURCE_EXHAUSTED" in line or "OUT_OF_MEMORY" in line:
            raise GmmcoreError(
                f"device: the memory of the GPU does not suffice ({line}); end what else uses it, "
                "or set device: cpu"
            ) from error
        raise GmmcoreError(
            f"device: the GPU failed ({line}); give the same command again, which goes on after "
            "the last iteration, or set device: cpu"
        ) from error


class GpuSums(Sums):
    """The sums on a GPU. The way of products in single precision is one of `PRODUCTS`."""

    products = "float32"

    def __init__(self, mixture: GaussianMixture, precision: str) -> None:
        _find()
        super().__init__(mixture, precision)
        size = self.dtype.itemsize * max(*self.shape, self.shape[0] * self.shape[1] // RUN)
        fits = _power_of_two(_LARGEST_BYTES // size + 1) // 2
        self.block = max(RUN, min(fits, _LARGEST_BLOCK))
        with _computing():
            import jax

            self._parameters = jax.device_put(self._parameters_of())

    def _parameters_of(self) -> dict[str, AnyArray]:
        found = {"coefficients": self.coefficients}
        if self.kind.origin.any():
            found["origin"] = self.kind.origin
        if isinstance(self.kind, Full):
            return {**found, "whitening": self.kind.whitening.T.astype(self.dtype)}
        return {**found, "scale": (1.0 / self.kind.scale).astype(self.dtype)}

    def over(self, source: FrameSource) -> Array:
        """Sum over the frames of a source; see `Sums.over`."""
        with _computing():
            return checked(np.array(self._sum(source, True, deque())), source)

    def log_likelihood(self, source: FrameSource) -> float:
        """Sum the log-likelihoods of the frames of a source."""
        with _computing():
            return float(checked(np.array(self._sum(source, False, deque())), source)[-1])

    def total(self, parts: Sequence[Slice], map: Map) -> Array:
        """Add the sums of all parts; the GPU computes while the next parts are copied."""
        waiting: deque[Any] = deque()
        with _computing():
            total = functools.reduce(
                lambda one, other: one + other,
                map(lambda part: self._sum(part, True, waiting), parts),
            )
            result = np.array(total)
        if not np.isfinite(result[-1]):
            for part in parts:
                self.over(part)  # It tells which frames are not finite.
        return result

    def _sum(self, source: FrameSource, has_statistics: bool, waiting: deque[Any]) -> Any:
        """Return the sums of a source, which the GPU may still compute, as an array of JAX."""
        import jax

        compute = _program(self.kind.is_full, self.dtype, self.products, has_statistics)
        block = max(RUN, min(self.block, _power_of_two(max(source.frames, 1))))
        layout = block, self.dtype, bool(self.kind.origin.any())
        if weights_of(source, 0, source.frames) is not None:
            raise GmmcoreError("device: cuda knows no weights of frames; set device: cpu")
        kept = source.kept.get(layout) if isinstance(source, Slice) else None
        blocks, total = [], 0.0
        for index, start in enumerate(range(0, max(source.frames, 1), block)):
            stop = min(start + block, source.frames)
            if kept:
                frames = kept[index]
            else:
                frames = jax.device_put(self._padded(source.read(start, stop), block))
            blocks.append(frames)
            total = total + compute(frames, stop - start, self._parameters)
            waiting.append(total)
            if len(waiting) > _WAITING:
                waiting.popleft().block_until_ready()
        if not kept and isinstance(source, Slice) and _has_room():
            source.kept = {layout: blocks}
        return total

    def _sent_dtype(self, frames: Any) -> np.dtype[Any]:
        """Return the type of frames on the GPU: single precision is sent as it is."""
        if frames.dtype == np.float32:
            return np.dtype(np.float32)
        # Others are rounded here, unless the origin is to be subtracted before.
        return np.dtype(np.float64) if self.kind.origin.any() else self.dtype

    def _padded(self, frames: npt.NDArray[np.floating], length: int) -> AnyArray:
        """Repeat the last frame up to a length; the repeated ones are not counted."""
        with np.errstate(over="ignore"):  # The log-likelihood of such a frame is not finite.
            frames = frames.astype(self._sent_dtype(frames), copy=False)
        if not len(frames):
            return np.zeros((length, self.dimension), frames.dtype)
        return np.pad(frames, ((0, length - len(frames)), (0, 0)), mode="edge")


def _has_room() -> bool:
    memory = _find().memory_stats() or {}
    return bool(
        memory.get("bytes_in_use", 0) <= _KEPT_SHARE * memory.get("bytes_limit", sys.maxsize)
    )


def _power_of_two(value: int) -> int:
    """Return the smallest power of two that is not less."""
    return 1 << (value - 1).bit_length()


@functools.cache
def _program(
    is_full: bool, dtype: np.dtype[Any], products: str, has_statistics: bool
) -> Callable[..., Any]:
    """Compile the sums over frames (F, D), of which some count; F is a power of two times `RUN`."""
    import jax
    import jax.numpy as jnp

    preset = "F64_F64_F64" if dtype == np.float64 else PRODUCTS[products]
    algorithm = jax.lax.DotAlgorithmPreset[preset]

    def product(left: Any, right: Any, axes: Any, batch: Any = ((), ())) -> Any:
        return jax.lax.dot_general(
            left, right, (axes, batch), precision=algorithm, preferred_element_type=left.dtype
        )

    def expand(frames: Any, parameters: dict[str, Any]) -> Any:
        if "origin" in parameters:
            # The origin is subtracted in the higher of both precisions.
            work = np.result_type(frames.dtype, dtype)
            frames = frames.astype(work) - parameters["origin"].astype(work)
        y = frames.astype(dtype)
        if is_full:
            whitening = parameters["whitening"]
            # XLA makes products of single numbers in another way, which is not complete.
            y = product(y, whitening, ((1,), (0,))) if len(whitening) > 1 else y * whitening
            rows, columns = np.tril_indices(y.shape[1])
            squares = y[:, rows] * y[:, columns]
        else:
            y = y * parameters["scale"]
            squares = y * y
        width = squares.shape[1] + y.shape[1] + 1
        rest = jnp.zeros((len(y), -width % _ALIGNED), dtype)
        return jnp.concatenate([squares, y, jnp.ones((len(y), 1), dtype), rest], axis=1)

    def sums(frames: Any, count: Any, parameters: dict[str, Any]) -> Any:
        coefficients = parameters["coefficients"]
        width, components = coefficients.shape
        phi = expand(frames, parameters)
        padding = ((0, phi.shape[1] - width), (0, 0))
        logs = product(phi, jnp.pad(coefficients, padding), ((1,), (0,)))
        largest = logs.max(axis=1, keepdims=True)
        densities = jnp.exp(logs - largest)
        total = densities.sum(axis=1, keepdims=True)
        is_counted = (jnp.arange(len(frames)) < count)[:, np.newaxis]
        each = jnp.where(is_counted, (largest + jnp.log(total)).astype(np.float64), 0)
        log_likelihood = _paired(each)
        if not has_statistics:
            return log_likelihood
        share = jnp.where(is_counted, 1 / total, 0)
        if components < width:
            densities *= share
        else:
            phi *= share
        of_runs = product(
            phi.reshape(-1, RUN, phi.shape[1]),
            densities.reshape(-1, RUN, components),
            ((1,), (1,)),
            ((0,), (0,)),
        )
        statistics = _paired(of_runs[:, :width].astype(np.float64))
        return jnp.concatenate([statistics.ravel(), log_likelihood])

    # Without measuring which of several ways is the fastest, which another run may find to be
    # another one: https://openxla.org/xla/determinism. Triton's products need such measurements to
    # be fast, but only they have parts of lower precision.
    options = {"xla_gpu_deterministic_ops": True, "xla_gpu_enable_triton_gemm": "X" in preset}
    return jax.jit(sums, compiler_options=options)


def _paired(values: Any) -> Any:
    """Sum over the first axis, a power of two, in pairs."""
    while len(values) > 1:
        pairs = values.reshape(-1, 2, *values.shape[1:])
        values = pairs[:, 0] + pairs[:, 1]
    return values[0]
