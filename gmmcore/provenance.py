"""What a mixture was made from, and by which settings: written into its file, read by resuming."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from gmmcore.em import ARITHMETIC
from gmmcore.files import digest_of
from gmmcore.options import Options, mapping
from gmmcore.steps import EStep

__all__ = ["Provenance", "settings_digest"]


@dataclass(frozen=True)
class Provenance:
    """Where a mixture comes from.

    Attributes
    ----------
    stage : str
        ``diag`` or ``full``.
    components : int
        Components of the stage.
    iteration : int
        0 for the first mixture of a stage.
    parent : str or None
        Digest of the mixture that it was made from.
    corpus : str or None
        Digest of the frames.
    settings : str or None
        `settings_digest` of what made it.
    log_likelihood, gain : float or None
        See `gmmcore.history.HistoryEntry`.
    """

    stage: str
    components: int
    iteration: int = 0
    parent: str | None = None
    corpus: str | None = None
    settings: str | None = None
    log_likelihood: float | None = None
    gain: float | None = None

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Provenance:
        """What the header of a file says; a file that is no mixture has no stage."""
        known = {name: facts[name] for name in cls.__dataclass_fields__ if name in facts}
        return cls(**{"stage": "", "components": 0, **known})

    def facts(self) -> dict[str, Any]:
        """For the header of a file; a first mixture has no likelihood."""
        skipped = ("log_likelihood", "gain") if self.log_likelihood is None else ()
        return {key: value for key, value in vars(self).items() if key not in skipped}


def settings_digest(verb: str, settings: Options | None = None) -> str:
    """Digest of all that decides the numbers a verb writes, beside its input."""
    if settings is None:
        return digest_of(verb, ARITHMETIC)
    chosen = mapping(settings, EStep if verb == "accumulate" else None)
    # JSON has no infinity.
    chosen = {key: str(value) if value in (inf, -inf) else value for key, value in chosen.items()}
    return digest_of(verb, chosen, ARITHMETIC)
