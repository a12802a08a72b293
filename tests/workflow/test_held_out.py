"""Held-out shows in whole runs: never trained on, the same bytes, and only what depends on them."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from flows import PLAIN, Workflow, changed, errors, iterations, jobs

from gmmcore.data.shows import ShowTable
from gmmcore.formats.hdf5 import load_model
from gmmcore.workflow.runs import read_runs

pytestmark = pytest.mark.slow

GIVEN = changed(PLAIN, held_out=0.3, llk_gain=-1000.0)
# Few frames for the number of parameters.
FEW = changed(
    PLAIN,
    components=8,
    iterations=[1, 3],
    llk_gain=-1000.0,
    held_out={"share": 0.5},
    full={"iterations": 4, "prior": 0, "occupancy": 0, "floor": 1e-6},
    features={"list": "few.tsv", "shards": 1},
)


def shows(flow: Workflow) -> list[set[str]]:
    """The shows of each part, as the tables have them."""
    (run,) = read_runs(flow.config).values()
    folder = flow.folder / "results/features"
    return [
        {row.show for row in ShowTable.read(folder / name / "shows.tsv").rows}
        for name in run.corpora
    ]


def list_few(flow: Workflow) -> None:
    """Write a list of the beginnings of all shows."""
    names = sorted(path.name for path in flow.folder.glob("corpus/s*.h5"))
    lines = [f"{name}\tcorpus/{name}\t0\t60\n" for name in names]
    (flow.folder / "few.tsv").write_text("".join(lines).replace(".h5\tcorpus", "\tcorpus"))


def folders(flow: Workflow) -> list[str]:
    (run,) = read_runs(flow.config).values()
    return [f"results/features/{name}" for name in run.corpora]


def at_rest(flow: Workflow) -> None:
    assert "Nothing to be done" in flow.run()
    assert flow.verb("check")[0] == 0


@pytest.fixture(scope="module")
def held(trained: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    flow = trained.copy_to(tmp_path_factory.mktemp("held") / "made")
    flow.remove("results", "logs", ".snakemake")
    flow.configure(GIVEN)
    flow.run()
    return flow


@pytest.fixture
def changing(held: Workflow, tmp_path: Path) -> Workflow:
    return held.copy_to(tmp_path / "copy")


def test_held_out_shows_are_packed_apart_and_scored(held: Workflow) -> None:
    training, others = shows(held)
    assert training
    assert others
    assert not training & others
    assert len(training | others) == 6
    model = load_model(held.folder / "results/tiny/ubm.h5")
    assert all(not math.isnan(entry.held_out) for entry in model.history)
    table = (held.folder / "results/tiny/history.tsv").read_text().splitlines()
    assert table[0].endswith("\theld_out")
    # The program computes the same of any file, one show after the other.
    code, output = held.verb("score", "results/tiny/full/4/001.h5", "results/tiny/ubm.h5")
    assert code == 0
    rows = [line.split("\t") for line in output.splitlines()]
    assert rows[0] == ["show", "frames", "results/tiny/full/4/001.h5", "results/tiny/ubm.h5"]
    assert {row[0] for row in rows[1:-1]} == others
    assert rows[-1][0] == "all"
    expected = [model.history[-1].held_out, model.facts["held_out"]]
    assert [float(value) for value in rows[-1][2:]] == pytest.approx(expected, abs=2e-6)
    at_rest(held)


@pytest.mark.parametrize(("cores", "parts"), [(1, "auto"), (4, 2)])
def test_cores_and_jobs_do_not_change_a_byte(held, changing, cores, parts):
    changing.remove("results/tiny")
    changing.configure({**GIVEN, "jobs": parts})
    changing.run("--cores", str(cores))
    assert changing.made() == held.made()


def test_any_iteration_and_any_frames_may_be_lost(held, changing):
    whole = held.made()
    for name in ("diag/2/002.h5", "diag/4/001.h5", "full/4/002.h5"):
        changing.remove(f"results/tiny/{name}", f"results/tiny/{name.rsplit('/', 1)[0]}.h5")
        changing.run()
        assert changing.made() == whole
    (shard,) = changing.folder.glob(f"{folders(changing)[1]}/*.npy")
    content = bytearray(shard.read_bytes())
    content[2000] ^= 1
    shard.write_bytes(content)
    changing.remove("results/tiny/full/4/002.h5", "results/tiny/full/4.h5")
    assert "makes it anew" in errors(changing.run(code=1))[0]
    log = changing.run()
    assert (jobs(log)["pack"], iterations(log)) == (1, ["full/4/2"])
    assert changing.made() == whole


def test_a_change_makes_again_what_depends_on_it(trained, fresh):
    """A list of its own leaves the frames of the training as they are."""
    named = ["speaker000_0000", "speaker001_0001"]
    rest = sorted({path.stem for path in fresh.folder.glob("corpus/s*.h5")} - set(named))
    (fresh.folder / "rest.txt").write_text("\n".join(rest))
    for show in named:
        (fresh.folder / f"{show}.txt").write_text(f"{show}\n")
    given = changed(PLAIN, features={"list": "rest.txt", "root": "corpus"})
    fresh.configure(given)
    fresh.run()
    plain = fresh.made()
    lists = [{**given, "held_out": {"list": f"{show}.txt"}} for show in named]
    made = []
    for config in lists:
        fresh.configure(config)
        log = fresh.run()
        assert jobs(log)["pack"] == 1
        assert len(re.findall(r"^shard \d+: ", log, re.MULTILINE)) == 1
        assert {"diag/2/1", "diag/4/1", "full/4/1"} <= {*iterations(log)}  # All stages anew.
        at_rest(fresh)
        made.append(fresh.made())
    means = [load_model(fresh.folder / f"results/tiny/{k}/4.h5").mixture for k in ("diag", "full")]
    for config, expected in ((lists[0], made[0]), (given, plain)):
        fresh.configure(config)
        fresh.run()
        at_rest(fresh)
        assert fresh.made() == expected
    again = [load_model(fresh.folder / f"results/tiny/{k}/4.h5").mixture for k in ("diag", "full")]
    assert all((a.means == b.means).all() for a, b in zip(means, again, strict=True))


def test_a_show_is_not_held_out_and_trained_on(fresh):
    (fresh.folder / "some.txt").write_text("speaker000_0001\n")
    config = changed(PLAIN, held_out={"list": "some.txt"}, features={"root": "corpus"})
    fresh.configure(config)
    (line,) = errors(fresh.run(code=1))
    assert "1 show to hold out, such as speaker000_0001, also in the list to train on" in line


def test_an_over_fitted_training_is_told(fresh):
    list_few(fresh)
    fresh.configure(FEW)
    log = fresh.run()
    assert len(re.findall(r"^warning: full 8, .* held-out", log, re.MULTILINE)) == 1
    assert re.search(
        r"^held-out .*; the highest was -\S+, before iteration . of ", log, re.MULTILINE
    )
    whole = fresh.made()
    # The form of the iterations changes nothing.
    fresh.remove("results/tiny")
    fresh.configure({**FEW, "jobs": 2})
    fresh.run()
    assert fresh.made() == whole
