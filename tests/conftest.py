"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before numpy is imported: small products are slow in threads that wait for a busy processor.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data, which only the maintainers have."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the reference data are not beside this checkout")
    return SHARED / "data"
