"""What every reader of mixtures refuses, said in one way."""

from __future__ import annotations

import os
from typing import NoReturn

import numpy.typing as npt

from gmmcore.errors import GmmcoreError
from gmmcore.model import GaussianMixture, InvalidMixtureError

__all__ = [
    "MAX_BYTES",
    "MAX_COMPONENTS",
    "MAX_DIMENSION",
    "checked_mixture",
    "checked_size",
    "refuse",
]

PathLike = str | os.PathLike[str]

MAX_BYTES = 4 << 30
"""No model file is larger: 16,384 full components of dimension 128 take 2 GiB."""

MAX_COMPONENTS = 1 << 20
MAX_DIMENSION = 1 << 16


def refuse(path: PathLike, kind: str, reason: str) -> NoReturn:
    """Raise the error of a file that cannot be read as `kind`."""
    raise GmmcoreError(f"{path}: cannot be read as {kind}: {reason}")


def checked_size(path: PathLike, kind: str, components: int, dimension: int) -> None:
    """Refuse sizes that no mixture has, before anything of that size is made.

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
    """A `GaussianMixture` of what a file holds.

    Raises
    ------
    GmmcoreError
        If the parameters are no mixture; the message names the file and the fault.
    """
    try:
        return GaussianMixture(weights, means, precisions, variance_control)
    except InvalidMixtureError as error:
        refuse(path, kind, str(error))
