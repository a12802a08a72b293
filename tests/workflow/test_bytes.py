"""The same bytes from any number of cores and jobs, in whatever order the jobs end."""

from __future__ import annotations

import pytest
from flows import FIRST, PLAIN, iterations

pytestmark = pytest.mark.slow

SHUFFLING = """
import os, random, sys, time
# Jobs end in an order that changes from iteration to iteration.
time.sleep(random.Random(" ".join(sys.argv)).uniform(0, 0.4))
os.execv(REAL, sys.argv)
"""


# The training they are compared with used two cores and `jobs: auto`.
@pytest.mark.parametrize(("cores", "jobs"), [(1, "auto"), (4, 3)])
def test_cores_jobs_and_order_do_not_change_a_byte(trained, fresh, cores, jobs):
    fresh.configure({**PLAIN, "jobs": jobs})
    assert iterations(fresh.wrap_jobs(SHUFFLING).run("--cores", str(cores))) == FIRST
    assert fresh.made() == trained.made()
