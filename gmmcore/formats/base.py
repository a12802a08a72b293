"""The type of all formats of mixture files, and the checks that their readers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from gmmcore.core.mixture import GaussianMixture, InvalidMixtureError
from gmmcore.errors import GmmcoreError
from gmmcore.files import PathLike

__all__ = [
    "MAX_BYTES",
    "MAX_COMPONENTS",
    "Format",
    "ReadOptions",
    "check_constants",
    "check_single",
    "checked_mixture",
    "checked_size",
    "parse_each",
    "parse_numbers",
    "read_back",
    "refuse",
]

Array = npt.NDArray[np.float64]

MAX_BYTES = 4 << 30
"""Largest size of a model file; 16,384 full components of dimension 128 take 2 GiB."""

MAX_COMPONENTS = 1 << 20
MAX_DIMENSION = 1 << 16


@dataclass(frozen=True)
class ReadOptions:
    """Options that only some formats read a file with.

    Attributes
    ----------
    prefix : str
        SIDEKIT HDF5: what the names of the datasets begin with.
    begin_hmm, state2 : bool
        HTK: whether to read parameters without a ``<BEGINHMM>`` or ``<STATE>`` before them.
    """

    prefix: str = ""
    begin_hmm: bool = False
    state2: bool = False


@dataclass(frozen=True)
class Format:
    """A format of mixture files.

    Attributes
    ----------
    name : str
        Its name in ``--format`` and in ``export:``.
    title : str
        Its name in messages.
    extensions : tuple of str
        Extensions of its files; the first is that of messages.
    recognises : callable
        Whether the content of a file is of this format.
    decode : callable
        Makes a mixture of path (for messages), content and options; may raise `GmmcoreError`.
    write : callable
        Writes a mixture to a path, whole or not at all.
    """

    name: str
    title: str
    extensions: tuple[str, ...]
    recognises: Callable[[bytes], bool]
    decode: Callable[[PathLike, bytes, ReadOptions], GaussianMixture]
    write: Callable[[PathLike, GaussianMixture], None]


def refuse(path: PathLike, kind: str, reason: str) -> NoReturn:
    """Raise the error of a file that cannot be read as `kind`."""
    raise GmmcoreError(f"{path}: cannot be read as {kind}: {reason}")


def checked_size(path: PathLike, kind: str, components: int, dimension: int) -> None:
    """Refuse sizes that no mixture has, before memory is taken for them.

    Raises
    ------
    GmmcoreError
        If the number of components or the dimension is out of bounds.
    """
    if not 1 <= components <= MAX_COMPONENTS:
        refuse(path, kind, f"it claims {components} components, 1 to {MAX_COMPONENTS} are possible")
    if not 1 <= dimension <= MAX_DIMENSION:
        refuse(path, kind, f"it claims dimension {dimension}, 1 to {MAX_DIMENSION} are possible")


def checked_mixture(
    path: PathLike,
    kind: str,
    weights: npt.ArrayLike,
    means: npt.ArrayLike,
    precisions: npt.ArrayLike,
    variance_control: npt.ArrayLike | None = None,
) -> GaussianMixture:
    """Make a `GaussianMixture` of the parameters in a file.

    Raises
    ------
    GmmcoreError
        If the parameters are no mixture; the message names the file and the fault.
    """
    try:
        return GaussianMixture(weights, means, precisions, variance_control)
    except InvalidMixtureError as error:
        refuse(path, kind, str(error))


def check_constants(
    path: PathLike, kind: str, stated: Array, computed: Array, tolerance: npt.ArrayLike
) -> None:
    """Compare the constants in a file with those that follow from its parameters.

    Some toolkits write constants without a meaning. So those of a file count only if most of them
    agree with the parameters; the others are damage then.

    Parameters
    ----------
    path, kind
        For the message.
    stated : ndarray, shape (C,)
        Logarithms of the constants in the file; not finite where it has none.
    computed : ndarray, shape (C,)
        Logarithms of the constants that follow from its parameters.
    tolerance
        Largest difference of two that agree.

    Raises
    ------
    GmmcoreError
        If some, but fewer than half, of the constants contradict the parameters.
    """
    with np.errstate(invalid="ignore"):
        difference = np.abs(stated - computed)
    agree, contradict = difference <= tolerance, difference > tolerance
    contradict &= np.isfinite(stated)
    if 0 < contradict.sum() < agree.sum():
        bad = int(np.argmax(contradict))
        refuse(
            path,
            kind,
            f"the parameters of component {bad} contradict its constant "
            f"({stated[bad]:.6g} where {computed[bad]:.6g} follows): the file is damaged",
        )


def check_single(path: PathLike, kind: str, *arrays: Array) -> None:
    """Refuse to write numbers that float32 cannot hold."""
    if any(np.abs(values).max() > np.finfo(np.float32).max for values in arrays):
        raise GmmcoreError(
            f"{path}: cannot be written as {kind}: a number is beyond single precision; "
            "use sidekit or alize"
        )


def read_back(
    path: PathLike, kind: str, rounded: str, decode: Callable[[], GaussianMixture]
) -> GaussianMixture:
    """Decode what is to be written: constants are those of the rounded parameters.

    Raises
    ------
    GmmcoreError
        If rounding makes the parameters invalid.
    """
    try:
        return decode()
    except GmmcoreError as error:
        reason = str(error).removeprefix(f"{path}: cannot be read as {kind}: ")
        raise GmmcoreError(
            f"{path}: cannot be written as {kind}: {rounded} {reason}; use sidekit or alize"
        ) from None


def parse_numbers(text: bytes) -> Array | None:
    """The numbers in `text`, separated by white space; None if anything else is in it."""
    return parse_each(text.split())


def parse_each(words: list[bytes]) -> Array | None:
    """The numbers that the words are; None if any of them is no number."""
    try:
        values = np.array(words, dtype=np.float64)
    except ValueError:
        return None
    # Python reads 1_0 as 10.
    return None if any(b"_" in word for word in words) else values
