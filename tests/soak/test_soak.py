"""Samples of the tables in damage.py, and what was once found wrong."""

from __future__ import annotations

import random
import shutil
from typing import Any

import pytest
from damage import CHANGES, CONFIG, Damage, cases, changed, files_of, outcome_of, try_damage
from flows import LONG, Workflow
from soak import Fresh, finished_run, try_changes

pytestmark = pytest.mark.slow

Finished = tuple[Workflow, Fresh]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A finished run, and what fresh ones give."""
    folder = tmp_path_factory.mktemp("soak")
    flow = finished_run(folder / "finished")
    fresh = Fresh(flow, folder)
    return flow, fresh


def removed(*names: str) -> list[Damage]:
    return [(name, "remove", name) for name in names]


def lost(flow: Workflow, *names: str) -> list[str]:
    """Files of the run, `shows.tsv` and `corpus.json` of its features among them."""
    (features,) = flow.folder.glob("results/features/*")
    beside = {name: f"results/features/{features.name}/{name}" for name in names if "/" not in name}
    return [
        f"results/tiny/{name}" if name == "ubm.h5" or "/" in name else beside[name]
        for name in names
    ]


@pytest.mark.parametrize(
    ("names", "state"),
    [
        (("shows.tsv", "ubm.h5"), True),
        (("shows.tsv", "ubm.h5"), False),
        (("corpus.json", "ubm.h5"), True),
        (("full/4/000.h5", "ubm.h5"), False),
        (("diag/4/000.h5", "ubm.h5"), True),
        (("diag/4/000.h5", "full/4/000.h5", "full/4/001.h5", "full/4/002.h5"), False),
        (("diag/2/000.h5", "full/4/002.h5"), True),
    ],
)
def test_files_that_are_lost_together(finished, tmp_path, names, state):
    flow, fresh = finished
    case = removed(*lost(flow, *names))
    assert not try_damage(flow, fresh.of(CONFIG), case, tmp_path / "run", state=state)


def test_what_follows_a_checkpoint_is_not_forgotten(finished, tmp_path):
    """Snakemake decides anew after a checkpoint, by checksums of what it made again."""
    flow, fresh = finished
    table, skipped = lost(flow, "shows.tsv", "skipped.tsv")
    case = [(table, "truncate", ""), (skipped, "flip", "")]
    assert not try_damage(flow, fresh.of(CONFIG), case, tmp_path / "run", state=True)


@pytest.mark.parametrize("state", [True, False])
def test_first_mixtures_that_are_swapped(finished, tmp_path, state):
    """With one iteration per stage nothing but the names of the files tells them apart."""
    flow, fresh = finished
    config = changed([("iterations", [1])])
    run = flow.copy_to(tmp_path / "run")
    run.configure(config)
    run.run()
    one, other = (run.folder / f"results/tiny/diag/{number}/000.h5" for number in (2, 4))
    aside = run.folder / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    if not state:
        shutil.rmtree(run.folder / ".snakemake")
    assert not outcome_of(run, fresh.of(config), twice=True)


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (("iterations", [1, 3]), True),
        (("llk_gain", 0.5), False),
        (("low_count.occupancy", 900.0), True),
        (("features.normalisation", "cmvn"), False),
        (("features.shards", 2), False),
    ],
    ids=str,
)
def test_a_key_is_changed_and_changed_back(finished, tmp_path, change, state):
    flow, fresh = finished
    assert not try_changes(flow, fresh, [change], tmp_path / "run", state=state)


def test_features_are_written_again_and_the_records_lost(finished, tmp_path):
    flow, _ = finished
    run = flow.copy_to(tmp_path / "run")
    first, second, *_ = sorted((run.folder / "corpus").glob("*_0000.h5"))
    content = first.read_bytes().replace(first.stem.encode(), second.stem.encode())
    assert content != second.read_bytes()
    second.write_bytes(content)
    again = run.copy_to(tmp_path / "fresh")
    again.remove("results", "logs", ".snakemake")
    again.run()
    assert again.made() != run.made()
    run.remove(".snakemake")
    assert not outcome_of(run, again.made(), twice=True)


@pytest.mark.parametrize("state", [True, False])
def test_a_sample_of_the_table_of_damages(finished, tmp_path, state):
    flow, fresh = finished
    expected = fresh.of(CONFIG)
    everything = list(cases(files_of(flow), 1, 300))
    for number, case in enumerate(random.Random(1 + state).sample(everything, 50 if LONG else 2)):
        wrong = try_damage(flow, expected, case, tmp_path / f"run{number}", state=state)
        assert not wrong, f"{case}: {wrong}"


def test_a_pair_of_changes(finished, tmp_path):
    flow, fresh = finished
    pair: list[Any] = random.Random(3).sample(CHANGES, 2)
    assert not try_changes(flow, fresh, pair, tmp_path / "run", state=False)


def test_every_key_of_the_table_is_one_that_changes_the_configuration():
    assert len({str(change) for change in CHANGES}) == len(CHANGES) > 40
    assert all(changed([change]) != CONFIG for change in CHANGES)
