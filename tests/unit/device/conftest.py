from __future__ import annotations

import os

import pytest

from gmmcore.core.gpu.choice import lacking
from gmmcore.core.gpu.device import find


@pytest.fixture(autouse=True)
def _device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor does what a device would, unless `JAX_PLATFORMS=cuda` asks for one."""
    pytest.importorskip("jax")
    monkeypatch.setenv("JAX_PLATFORMS", os.environ.get("JAX_PLATFORMS", "cpu"))
    if (reason := lacking()) is not None:
        pytest.skip(reason)
    find.cache_clear()
