"""The class `Format`, and functions that the readers and writers of several formats share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from gmmcore.core.mixture import GaussianMixture, InvalidMixtureError
from gmmcore.core.settings import MAX_COMPONENTS
from gmmcore.errors import GmmcoreError
from gmmcore.files import MIXTURE_FILES, PathLike

Array = npt.NDArray[np.float64]

MAX_BYTES = 4 << 30
"""Largest size of a mixture file; 16,384 full components of dimension 128 take 2 GiB."""

MAX_DIMENSION = 1 << 16


@dataclass(frozen=True)
class Format:
    """A format of mixture files; `MIXTURE_FILES` has its module and its extensions."""

    name: str
    title: str  # Name in messages.
    recognises: Callable[[bytes], bool]  # Whether content is of the format.
    decode: Callable[[PathLike, bytes], GaussianMixture]  # From a path, for messages, and content.
    write: Callable[[PathLike, GaussianMixture], None]

    @property
    def extensions(self) -> tuple[str, ...]:
        """Extensions of files; messages and `export` use the first one."""
        return MIXTURE_FILES[self.name][1]


class Reading:
    """A file that is read as one format; errors name the file and the format."""

    def __init__(self, path: PathLike, title: str) -> None:
        self.path, self.title = path, title

    def refuse(self, reason: str) -> NoReturn:
        """Raise the error of a file that cannot be read."""
        raise GmmcoreError(f"{self.path}: cannot be read as {self.title}: {reason}")

    def check_size(self, components: int, dimension: int) -> None:
        """Refuse sizes that no mixture has, before the reader allocates memory for them."""
        for found, what, most in (
            (components, f"{components} components", MAX_COMPONENTS),
            (dimension, f"dimension {dimension}", MAX_DIMENSION),
        ):
            if not 1 <= found <= most:
                self.refuse(f"it claims {what}, 1 to {most} are possible")

    def mixture(self, *parameters: Any) -> GaussianMixture:
        """Make a mixture of parameters in the file; refuse parameters that are invalid."""
        try:
            return GaussianMixture(*parameters)
        except InvalidMixtureError as error:
            self.refuse(str(error))

    def check_constants(self, stated: Array, computed: Array, tolerance: npt.ArrayLike) -> None:
        """Compare logarithms of the constants in the file with those of the parameters."""
        # Some toolkits write meaningless constants, or none. If most agree with the parameters, the
        # others are damage; if few or none agree, the constants mean nothing.
        with np.errstate(invalid="ignore"):
            difference = np.abs(stated - computed)
        agree, contradict = difference <= tolerance, difference > tolerance
        contradict &= np.isfinite(stated)
        if 0 < contradict.sum() < agree.sum():
            bad = int(np.argmax(contradict))
            self.refuse(
                f"the parameters of component {bad} contradict its constant "
                f"({stated[bad]:.6g} where {computed[bad]:.6g} follows): the file is damaged"
            )


def text_begins(content: bytes, pattern: bytes) -> bool:
    """Whether a text begins, behind white space, with a pattern in any case."""
    # No number of components in ALIZE RAW, whose bytes may be letters, has four without a null.
    start = content[:400].lstrip()
    return b"\0" not in content[:4] and re.match(pattern, start, re.IGNORECASE) is not None


def check_single(path: PathLike, title: str, *arrays: Array) -> None:
    """Refuse to write numbers beyond the range of float32."""
    if any(np.abs(values).max() > np.finfo(np.float32).max for values in arrays):
        raise GmmcoreError(
            f"{path}: cannot be written as {title}: a number is beyond single precision; "
            "use sidekit or alize"
        )


def read_back(
    path: PathLike, title: str, rounded: str, decode: Callable[[], GaussianMixture]
) -> GaussianMixture:
    """Decode the bytes to be written; their constants are computed from rounded parameters."""
    try:
        return decode()
    except GmmcoreError as error:
        reason = str(error).removeprefix(f"{path}: cannot be read as {title}: ")
        raise GmmcoreError(
            f"{path}: cannot be written as {title}: {rounded} {reason}; use sidekit or alize"
        ) from None


def parse_numbers(words: bytes | list[bytes]) -> Array | None:
    """Convert words, or a text of words, to numbers; None if a word is not a number."""
    words = words.split() if isinstance(words, bytes) else words
    try:
        values = np.array(words, dtype=np.float64)
    except ValueError:
        return None
    # Python takes 1_0 for 10.
    return None if any(b"_" in word for word in words) else values


def linear_constants(mixture: GaussianMixture) -> tuple[Array, Array, Array]:
    """Compute SIDEKIT's ``cst``, ``det`` (which may overflow) and ``a`` of each component."""
    log_constant = -0.5 * (mixture.dimension * math.log(2 * math.pi) + mixture.log_determinants)
    with np.errstate(over="ignore", under="ignore"):
        cst, det = np.exp(log_constant), np.exp(mixture.log_determinants)
        if mixture.is_full:
            return cst, det, np.zeros(mixture.components)
        a = (mixture.means**2 * mixture.precisions).sum(axis=1)
    return cst, det, a - 2.0 * (mixture.log_weights + log_constant)
