"""Records, in the file of a mixture, of what it was made from and with which settings."""

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
    """Origin of a mixture.

    Attributes
    ----------
    stage : str
        Kind of the covariances in the stage: ``diag`` or ``full``.
    components : int
        Number of components of the stage.
    iteration : int
        Number of the iteration; 0 for the first mixture of a stage.
    parent : str or None
        Digest of the mixture that this one was made from.
    corpus : str or None
        Digest of the frames.
    settings : str or None
        `settings_digest` of the verb that made the mixture.
    arithmetic : str or None
        `gmmcore.processor.in_use` of the process that made the mixture, or the mixture that it was
        made from without sums. Iterations of other processors are valid all the same.
    log_likelihood, gain : float or None
        Log-likelihood per frame and its growth; see `gmmcore.history.HistoryEntry`.
    """

    stage: str
    components: int
    iteration: int = 0
    parent: str | None = None
    corpus: str | None = None
    settings: str | None = None
    arithmetic: str | None = None
    log_likelihood: float | None = None
    gain: float | None = None

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Provenance:
        """Read the provenance in the header of a file; its stage is empty if there is none."""
        known = {name: facts[name] for name in cls.__dataclass_fields__ if name in facts}
        return cls(**{"stage": "", "components": 0, **known})

    def facts(self) -> dict[str, Any]:
        """Return the values for the header of a file; a first mixture has no log-likelihood."""
        skipped = ("log_likelihood", "gain") if self.log_likelihood is None else ()
        return {key: value for key, value in vars(self).items() if key not in skipped}


def settings_digest(verb: str, settings: Options | None = None) -> str:
    """Compute the digest of the settings that decide the numbers that a verb writes."""
    if settings is None:
        return digest_of(verb, ARITHMETIC)
    chosen = mapping(settings, EStep if verb == "accumulate" else None)
    # JSON has no infinity, so it is written as text.
    chosen = {key: str(value) if value in (inf, -inf) else value for key, value in chosen.items()}
    return digest_of(verb, chosen, ARITHMETIC)
