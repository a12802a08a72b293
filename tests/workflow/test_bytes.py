"""The same bytes from any number of cores and jobs, in whatever order the jobs end."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from conftest import PLAIN, Workflow

pytestmark = pytest.mark.slow

SHUFFLING = """#!{python}
import os, random, sys, time
# Jobs of an iteration end in an order that changes from iteration to iteration.
time.sleep(random.Random(" ".join(sys.argv) + "{seed}").uniform(0, 0.4))
os.execv({real!r}, sys.argv)
"""


# The training they are compared with used two cores and one job an iteration.
@pytest.mark.parametrize(("cores", "jobs"), [(1, 2), (4, 3)])
def test_cores_jobs_and_order_do_not_change_a_byte(trained, copied, cores, jobs):
    results = copied.folder / "results/tiny"
    before = trained.digests("results/tiny/shards/*")
    for name in ("diag", "full", "corpus.json", "ubm.h5", "history.tsv"):
        path = results / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if jobs == 3:
        shutil.rmtree(results / "shards")
    folder = copied.folder / "bin"
    folder.mkdir()
    real = str(Path(sys.executable).parent / "gmmcore")
    (folder / "gmmcore").write_text(SHUFFLING.format(python=sys.executable, seed=cores, real=real))
    (folder / "gmmcore").chmod(0o755)
    copied.configure({**PLAIN, "jobs": jobs})
    path = f"{folder}{os.pathsep}{Workflow(copied.folder).environment()['PATH']}"
    copied.environment = lambda: {**os.environ, "PATH": path}  # type: ignore[method-assign]
    log = copied.run("--cores", str(cores))
    assert log.count("  iteration ") == 7
    assert copied.digests() == trained.digests()
    assert copied.digests("results/tiny/shards/*") == before
    for name in ("history.tsv", "corpus.json"):
        expected = (trained.folder / "results/tiny" / name).read_bytes()
        assert (results / name).read_bytes() == expected
