"""Mixtures in files: SIDEKIT, Kaldi, ALIZE and HTK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmmcore.formats.registry import formats, read_mixture, write_mixture

__all__ = ["formats", "read_mixture", "write_mixture"]


# The jobs of a workflow need one format, and start without the others.
def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gmmcore.formats import registry

    return getattr(registry, name)
