"""What all tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before numpy is imported: small products are slow in threads that wait for a busy processor.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# A shell without job control has what it starts in its background ignore interruptions, and all
# that is started below; the tests send them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Thousands of processes start: their modules are compiled once.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Nothing is decided by a clock, and by chance only in the long form; see flows.py.
settings.register_profile(
    "steady",
    deadline=None,
    derandomize=os.environ.get("GMMCORE_TESTS") != "long",
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("steady")

DATA = Path(__file__).resolve().parent / "reference" / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of reference data; `tests/reference/README.md` says where they are from."""
    return DATA
