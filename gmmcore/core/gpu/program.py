"""The E-step as one program for a device, in the functions of JAX.

It computes what the kernels compute on a processor, from the same coefficients (see
`gmmcore.core.kernels`), with all components of all frames.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from gmmcore.core.kernels.base import Kernel
from gmmcore.core.kernels.diagonal import DiagonalKernel
from gmmcore.core.kernels.full import FullKernel

__all__ = ["PRODUCTS", "RUN", "Parameters", "parameters_of", "program"]

Parameters = dict[str, Any]

PRODUCTS = {
    "float32": "F32_F32_F32",
    "tf32x3": "TF32_TF32_F32_X3",
    "bf16x6": "BF16_BF16_F32_X6",
}
"""Ways to multiply matrices of float32, and their names in `jax.lax.DotAlgorithmPreset`."""

RUN = 1024
"""Number of frames whose products are added in the precision of the products."""

# The matrices have widths that are multiples of this, as tensor cores like them.
_ALIGNED = 8
# Axes of a product of two matrices.
_ROWS: tuple[tuple[int, ...], ...] = ((1,), (0,))
_NO_BATCH: tuple[tuple[int, ...], ...] = ((), ())


def parameters_of(kernel: Kernel) -> Parameters:
    """Return what a program needs of a kernel."""
    parameters: Parameters = {"coefficients": kernel.coefficients}
    if hasattr(kernel, "reference"):
        # What the mixture and the overall Gaussian have in common is added in double precision.
        parameters |= {
            "coefficients": kernel.relative,
            "reference": kernel.reference.astype(np.float64),
        }
    if not kernel.is_centred:
        parameters["origin"] = kernel.origin
    if isinstance(kernel, FullKernel):
        parameters["whitening"] = kernel.whitening.T.astype(kernel.dtype)
    elif isinstance(kernel, DiagonalKernel):
        parameters["scale"] = (1.0 / kernel.scale).astype(kernel.dtype)
    return parameters


@functools.cache
def program(
    is_full: bool, dtype: np.dtype[Any], products: str, has_statistics: bool
) -> Callable[..., Any]:
    """Return the compiled function of a block of frames.

    Parameters
    ----------
    is_full : bool
        Whether covariances are full.
    dtype : dtype
        Precision of the products, that of the kernel.
    products : {'float32', 'tf32x3', 'bf16x6'}
        How matrices of float32 are multiplied; those of float64 always as they are.
    has_statistics : bool
        Whether the sums are statistics and the log-likelihood, or only the latter.

    Returns
    -------
    callable
        Function of the frames (F, D), where F is a power of two times `RUN`, of the number of those
        that count, after which others fill the block, and of the `Parameters`. It returns the
        sums in the order of the kernel, float64, with the sum of the log-likelihoods at the end.
        They do not depend on how frames are divided into blocks, for all sums of more than `RUN`
        frames are made in pairs.
    """
    import jax
    import jax.numpy as jnp

    preset = "F64_F64_F64" if dtype == np.float64 else PRODUCTS[products]
    algorithm = jax.lax.DotAlgorithmPreset[preset]

    def expand(frames: Any, parameters: Parameters) -> Any:
        if "origin" in parameters:
            # It is subtracted in the higher of both precisions.
            work = np.result_type(frames.dtype, dtype)
            frames = frames.astype(work) - parameters["origin"].astype(work)
        y = frames.astype(dtype)
        if is_full:
            whitening = parameters["whitening"]
            if len(whitening) > 1:
                y = product(y, whitening, _ROWS, _NO_BATCH, algorithm)
            else:  # XLA makes products of single numbers in another way, which is not complete.
                y = y * whitening
            rows, columns = np.tril_indices(y.shape[1])
            squares = y[:, rows] * y[:, columns]
        else:
            y = y * parameters["scale"]
            squares = y * y
        width = squares.shape[1] + y.shape[1] + 1
        rest = jnp.zeros((len(y), -width % _ALIGNED), dtype)
        return jnp.concatenate([squares, y, jnp.ones((len(y), 1), dtype), rest], axis=1)

    def sums(frames: Any, count: Any, parameters: Parameters) -> Any:
        coefficients = parameters["coefficients"]
        width, components = coefficients.shape
        products = expand(frames, parameters)
        padding = ((0, products.shape[1] - width), (0, 0))
        logs = product(products, jnp.pad(coefficients, padding), _ROWS, _NO_BATCH, algorithm)
        largest = logs.max(axis=1, keepdims=True)
        densities = jnp.exp(logs - largest)
        total = densities.sum(axis=1, keepdims=True)
        is_counted = (jnp.arange(len(frames)) < count)[:, np.newaxis]
        each = (largest + jnp.log(total)).astype(np.float64)
        if "reference" in parameters:
            common = products[:, :width].astype(np.float64) * parameters["reference"]
            each += common.sum(axis=1, keepdims=True)
        log_likelihood = paired(jnp.where(is_counted, each, 0))
        if not has_statistics:
            return log_likelihood
        # The smaller of both factors is scaled, as on the processor.
        share = jnp.where(is_counted, 1 / total, 0)
        if components < width:
            densities *= share
        else:
            products *= share
        of_runs = product(
            products.reshape(-1, RUN, products.shape[1]),
            densities.reshape(-1, RUN, components),
            ((1,), (1,)),
            ((0,), (0,)),
            algorithm,
        )
        statistics = paired(of_runs[:, :width].astype(np.float64))
        return jnp.concatenate([statistics.ravel(), log_likelihood])

    # Without measuring which of several ways is the fastest, which another run may find to be
    # another one: https://openxla.org/xla/determinism. Triton's products need such measurements to
    # be fast, but only they have parts of lower precision.
    needs_triton = "X" in preset
    options = {"xla_gpu_deterministic_ops": True, "xla_gpu_enable_triton_gemm": needs_triton}
    return jax.jit(sums, compiler_options=options)


def product(left: Any, right: Any, axes: Any, batch: Any, algorithm: Any) -> Any:
    """Multiply matrices of one type, over axes and for each index of a batch."""
    import jax

    return jax.lax.dot_general(
        left, right, (axes, batch), precision=algorithm, preferred_element_type=left.dtype
    )


def paired(values: Any) -> Any:
    """Sum over the first axis, a power of two, in pairs."""
    while len(values) > 1:
        pairs = values.reshape(-1, 2, *values.shape[1:])
        values = pairs[:, 0] + pairs[:, 1]
    return values[0]
