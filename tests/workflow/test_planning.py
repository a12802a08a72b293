"""Many shards: some jobs make several, of which Snakemake knows the last one only."""

from __future__ import annotations

import re

import pytest
from flows import TINY, Workflow, changed, finished, jobs

pytestmark = pytest.mark.slow

SHARDS = 130
RESTING = "Nothing to be done"


@pytest.fixture
def many(tmp_path) -> Workflow:
    """A finished training on so many shards that each job makes two."""
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
    # A shard that is no output is missed all the same, and its neighbour is kept.
    for index, name, spoil in [
        (0, "000", lambda path: path.unlink()),
        (3, "003", lambda path: path.unlink()),
        (4, "004", lambda path: path.write_bytes(path.read_bytes()[:-1])),
    ]:
        spoil(files[index])
        code, output = many.verb("check")
        assert (code, f"{files[index].name}" in output) == (1, True), output
        assert jobs(many.run("-n"))["shard"] == 1
        assert packed(many.run()) == [name]
        assert RESTING in many.run()
    # So is one of which Snakemake lost its records.
    files[6].unlink()
    many.remove(".snakemake")
    assert packed(many.run()) == ["006"]
    # What a killed job made is kept: the output comes last.
    for index in (12, 13):
        files[index].unlink()
    assert packed(many.run()) == ["012", "013"]
    many.remove("results/tiny")
    found = jobs(many.run("-n"))
    assert "shard" not in found
    many.remove("results")
    assert sorted(packed(many.run())) == [f"{index:03d}" for index in range(SHARDS)]
    assert many.made() == made
