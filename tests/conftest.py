"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data, which only the maintainers have."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the reference data are not beside this checkout")
    return SHARED / "data"
