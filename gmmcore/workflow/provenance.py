"""Records, in the file of a mixture, of what it was made from and with which settings."""

from __future__ import annotations

from math import inf
from typing import Any

from gmmcore.config.keys import EStep
from gmmcore.config.options import Options, mapping
from gmmcore.core.mstep import ARITHMETIC
from gmmcore.core.parallel import arithmetic
from gmmcore.files import digest_of

__all__ = ["provenance", "settings_digest"]


def provenance(
    *,
    stage: str,
    components: int,
    iteration: int = 0,
    level: int = 0,
    parent: str | None = None,
    corpus: str | None = None,
    settings: str | None = None,
    device: str | None = None,
    **of_iteration: float | str | bool | None,
) -> dict[str, Any]:
    """Return the origin of a mixture, as the facts in the header of its file.

    Parameters
    ----------
    stage : str
        Kind of the covariances in the stage: ``diag`` or ``full``.
    components : int
        Number of components of the stage.
    iteration : int
        Number of the iteration; 0 for the first mixture of a stage.
    level : int
        Level of the subset of the frames that the iteration read; see
        `gmmcore.core.schedule.Course`.
    parent : str, optional
        Digest of the mixture that this one was made from.
    corpus : str, optional
        Digest of the frames.
    settings : str, optional
        `settings_digest` of the verb that made the mixture.
    device : str, optional
        Type of the device that computed the sums, and the path on it; None for the processor.
    **of_iteration
        What a first mixture has not: ``log_likelihood`` per frame, and its ``gain``, as
        in `gmmcore.core.history.HistoryEntry`, ``allowance`` of `gmmcore.core.mstep.Update`, and,
        where frames are held out, its ``held_out`` and as ``held_out_frames`` their digest.
    """
    return {
        "stage": stage,
        "components": components,
        "iteration": iteration,
        "level": level,
        "parent": parent,
        "corpus": corpus,
        "settings": settings,
        "arithmetic": arithmetic(),
        **({} if device is None else {"device": device}),
        **of_iteration,
    }


def settings_digest(verb: str, settings: Options | None = None) -> str:
    """Compute the digest of the settings that decide the numbers that a verb writes."""
    if settings is None:
        return digest_of(verb, ARITHMETIC)
    chosen = mapping(settings, EStep if verb == "accumulate" else None)
    # JSON has no infinity, so it is written as text.
    chosen = {key: str(value) if value in (inf, -inf) else value for key, value in chosen.items()}
    return digest_of(verb, chosen, ARITHMETIC)
