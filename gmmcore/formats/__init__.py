"""Mixtures in files: SIDEKIT, Kaldi, ALIZE and HTK."""

from __future__ import annotations

from gmmcore.formats.registry import formats, read_mixture, write_mixture

__all__ = ["formats", "read_mixture", "write_mixture"]
