"""Many shards: those that are there are in no graph, and a missing one is made alone."""

from __future__ import annotations

import re

import pytest
from flows import TINY, Workflow, changed, finished, jobs

pytestmark = pytest.mark.slow

SHARDS = 130
RESTING = "Nothing to be done"


@pytest.fixture
def many(tmp_path) -> Workflow:
    """A finished training on many shards."""
    values = changed(
        TINY,
        components=2,
        iterations=[1],
        full={"iterations": 0},
        demo={"shows": SHARDS},
        features={"shards": SHARDS},
    )
    return finished(Workflow(tmp_path), values)


def packed(log: str) -> list[str]:
    """Names of the shards that a log tells were packed."""
    return re.findall(r"shard (\d+): \d+ show", log)


def test_the_jobs_of_many_shards(many):
    files = sorted((many.folder / "results/features").glob("*/*.npy"))
    assert len(files) == SHARDS
    made = many.made()
    assert RESTING in many.run()
    # A missing shard is made again, and its neighbour is kept; a damaged one is first removed.
    for index, name, spoil in [
        (0, "000", lambda path: path.unlink()),
        (3, "003", lambda path: path.unlink()),
        (4, "004", lambda path: path.write_bytes(path.read_bytes()[:-1])),
    ]:
        spoil(files[index])
        code, output = many.verb("check")
        assert (code, f"{files[index].name}" in output) == (1, True), output
        many.verb("check", "--repair")
        assert jobs(many.run("-n"))["pack"] == 1
        assert packed(many.run()) == [name]
        assert RESTING in many.run()
    # So is one of which Snakemake lost its records.
    files[6].unlink()
    many.remove(".snakemake")
    assert packed(many.run()) == ["006"]
    for index in (12, 13):
        files[index].unlink()
    assert sorted(packed(many.run())) == ["012", "013"]
    many.remove("results/tiny")
    found = jobs(many.run("-n"))
    assert "pack" not in found
    many.remove("results")
    assert sorted(packed(many.run())) == [f"{index:03d}" for index in range(SHARDS)]
    assert many.made() == made
