"""Gaussian mixture training: a small numerical core, driven by a Snakemake workflow."""

from __future__ import annotations

__version__ = "0.1.0"
