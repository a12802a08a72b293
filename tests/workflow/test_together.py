"""Runs of one configuration, the features that the workflow makes, and what a dry run leaves."""

from __future__ import annotations

import copy
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from flows import PLAIN, ROOT, TINY, Workflow, changed, errors, jobs

pytestmark = pytest.mark.slow

QUICK: dict[str, Any] = changed(PLAIN, components=2, iterations=[1], full={"iterations": 0})
DEMO: dict[str, Any] = changed(TINY, components=2, iterations=[1], full={"iterations": 0})


def of_runs(base: dict[str, Any], **runs: Any) -> dict[str, Any]:
    values = copy.deepcopy(base)
    del values["run"]
    return {**values, "runs": runs}


def at_rest(flow: Workflow) -> None:
    """Nothing to do, and nothing wrong."""
    assert "Nothing to be done" in flow.run()
    code, output = flow.verb("check")
    assert code == 0, output


def frames_of(flow: Workflow) -> int:
    _, output = flow.verb("check")
    found = re.search(r"and (\d+) frames verified", output)
    assert found, output
    return int(found[1])


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A finished training on a demonstration corpus, not to be touched."""
    result = Workflow(tmp_path_factory.mktemp("demonstration"))
    result.configure(DEMO)
    result.run()
    return result


@pytest.fixture
def demonstrated(demonstration: Workflow, tmp_path: Path) -> Workflow:
    """A copy of it."""
    return demonstration.copy_to(tmp_path / "run")


@pytest.mark.parametrize("overrides", [{"demo": {"frames": 4000}}, {"seed": 2}], ids=str)
def test_runs_that_make_different_features_in_one_folder_are_refused(tmp_path, overrides):
    flow = Workflow(tmp_path)
    flow.configure(of_runs(DEMO, a={}, b=overrides))
    (line,) = errors(flow.run(code=1))
    assert "runs a and b make different features in one folder, corpus; give b another" in line


@pytest.mark.parametrize(
    ("change", "state"), [({"demo": {"frames": 4000}}, True), ({"seed": 5}, False)], ids=str
)
def test_a_demonstration_of_other_settings_is_made_again(demonstrated, tmp_path, change, state):
    flow = demonstrated
    flow.configure(changed(DEMO, **change))
    if not state:
        flow.remove(".snakemake")
    flow.run()
    at_rest(flow)
    fresh = Workflow(tmp_path / "fresh")
    fresh.folder.mkdir()
    fresh.configure(changed(DEMO, **change))
    fresh.run()
    # Names of shards hold the times of the features, which are made twice.
    final = "results/tiny/**/*.h5"
    assert flow.digests("corpus/*") == fresh.digests("corpus/*")
    assert flow.digests(final).keys() == fresh.digests(final).keys()
    assert frames_of(flow) == frames_of(fresh) == change.get("demo", {}).get("frames", 3000)


@pytest.mark.parametrize("name", ["show", "truth.h5", "shows.txt"])
def test_lost_or_damaged_files_of_the_demonstration_are_made_again(demonstrated, name):
    flow = demonstrated
    before = flow.digests("corpus/*")
    if name == "show":
        flow.remove(min(path for path in before if path.endswith("_0000.h5")))
    elif name == "truth.h5":
        os.truncate(flow.folder / "corpus/truth.h5", 2000)
    else:
        (flow.folder / "corpus/shows.txt").write_text("")
    flow.heal()
    at_rest(flow)
    assert flow.digests("corpus/*") == before


def test_runs_that_differ_in_the_seed_have_subsets_of_their_own_and_come_to_rest(fresh):
    fresh.configure(of_runs(QUICK, a={"seed": 1}, b={"seed": 2}))
    fresh.run()
    assert len(list(fresh.folder.glob("results/features/*"))) == 2
    at_rest(fresh)


@pytest.mark.parametrize("prefix", ["my_results/", "results/gmm/"])
def test_a_prefix_may_be_called_results(fresh, prefix):
    (fresh.folder / "Snakefile").write_text(
        f"module gmm:\n    snakefile: '{ROOT}/Snakefile'\n    config: {QUICK!r}\n"
        f"    prefix: '{prefix}'\n\nuse rule * from gmm as gmm_*\n"
    )
    fresh.run("-s", "Snakefile")
    assert (fresh.folder / prefix / "results/tiny/ubm.h5").exists()
    assert "Nothing to be done" in fresh.run("-s", "Snakefile")


def test_a_run_does_not_start_from_what_another_one_may_change(fresh):
    (fresh.folder / "linked").symlink_to("results/a/ubm.h5")
    spellings = ("results/a/ubm.h5", f"{fresh.folder}/results/a/ubm.h5", "./linked")

    def start(path: str) -> dict[str, Any]:
        return of_runs(QUICK, a={}, b={"components": 4, "init": {"from": path}})

    for spelling in spellings:
        fresh.configure(start(spelling))
        (line,) = errors(fresh.run(code=1))
        assert "init.from" in line
    fresh.configure(of_runs(QUICK, a={}))
    fresh.run()
    for spelling in spellings:
        fresh.configure(start(spelling))
        (line,) = errors(fresh.run(code=1))
        assert "init.from of run b is a result of run a" in line
    shutil.copy(fresh.folder / "results/a/ubm.h5", fresh.folder / "start.h5")
    fresh.configure(start("start.h5"))
    fresh.run()
    at_rest(fresh)


def test_a_run_that_is_renamed_is_not_another_one(fresh, tmp_path):
    fresh.configure(of_runs({**QUICK, "report": True}, a={}, b={"components": 2}))
    fresh.run()
    new = of_runs({**QUICK, "report": True}, c={}, b={"components": 2})
    alone = fresh.copy_to(tmp_path / "alone")
    shutil.rmtree(alone.folder / "results")
    alone.configure(new)
    alone.run()
    (fresh.folder / "results/a").rename(fresh.folder / "results/c")
    fresh.configure(new)
    code, output = fresh.verb("check")
    assert (code, "of another run" in output) == (1, True)
    fresh.run()
    assert fresh.made() == alone.made()
    assert "<title>c</title>" in (fresh.folder / "results/c/report.html").read_text()


def test_the_truth_and_the_list_of_a_demonstration_are_made_again(fresh):
    demos = {name: {**TINY["demo"], "folder": name} for name in ("one", "two")}
    features = {"features": {**QUICK["features"], "list": None}}
    fresh.configure(
        of_runs(
            {**QUICK, **features}, a={"demo": demos["one"]}, b={"demo": demos["two"], "seed": 2}
        )
    )
    fresh.run()
    expected, truths = fresh.made(), fresh.digests("[ot]*/truth.h5")
    places = [fresh.folder / f"{name}/truth.h5" for name in ("one", "two")]
    places[0].rename(fresh.folder / "aside")
    places[1].rename(places[0])
    (fresh.folder / "aside").rename(places[1])
    assert "of another corpus" in fresh.heal()
    assert fresh.digests("[ot]*/truth.h5") == truths
    for name in ("one", "two"):
        (fresh.folder / name / "shows.txt").unlink()
    fresh.run()
    assert (fresh.folder / "one/shows.txt").exists()
    for files in (expected, fresh.made()):
        # Names of shards, and what lists them, hold the times of the feature files.
        assert fresh.digests("results/[ab]/**/*.h5").items() <= files.items()
    assert fresh.verb("check")[0] == 0
    at_rest(fresh)


def test_a_dry_run_of_other_settings_changes_nothing(demonstrated):
    before = demonstrated.made()
    for key in ("components=8", "precision=double", "llk_gain=5.0", "seed=5"):
        assert jobs(demonstrated.run("-n", "--config", key))
        assert "Nothing to be done" in demonstrated.run("-n")
    # What is there already is not listed: one split, its iterations and the products come.
    log = demonstrated.run("-n", "--config", "components=4")
    assert "tiny/diag/4: stages diag 4 (" in log
    assert jobs(log) == {"iterate": 1, "finish": 1, "all": 1, "total": 3}
    at_rest(demonstrated)
    assert demonstrated.made() == before


@pytest.mark.parametrize("name", ["shows.txt", "truth.h5", "speaker000_0000.h5"])
def test_features_that_the_workflow_made_are_dated_in_the_future(demonstrated, name):
    flow = demonstrated
    before = flow.made()
    later = time.time() + 1e8
    os.utime(flow.folder / "corpus" / name, (later, later))
    # With its records, Snakemake compares the contents of such small files.
    flow.remove(".snakemake")
    flow.heal()
    at_rest(flow)
    final = "results/tiny/ubm.h5"
    assert flow.made()[final] == before[final]


def test_features_of_the_user_below_a_prefix_are_not_written_over(fresh):
    shutil.copytree(fresh.folder / "corpus", fresh.folder / "my/corpus")
    names = (fresh.folder / "corpus/shows.txt").read_text().splitlines()[1:]
    (fresh.folder / "my/corpus/shows.txt").write_text("\n".join(names) + "\n")
    before = fresh.digests("my/corpus/*")
    (fresh.folder / "Snakefile").write_text(
        f"module gmm:\n    snakefile: '{ROOT}/Snakefile'\n    config: {DEMO!r}\n"
        f"    prefix: 'my/'\n\nuse rule * from gmm as gmm_*\n"
    )
    (line,) = errors(fresh.run("-s", "Snakefile", code=1))
    assert "my/corpus/shows.txt: was not made by this workflow" in line
    assert fresh.digests("my/corpus/*") == before


def test_features_of_the_user_are_not_written_over(copied):
    names = (copied.folder / "corpus/shows.txt").read_text().splitlines()[1:]
    (copied.folder / "corpus/shows.txt").write_text("\n".join(names) + "\n")
    before = copied.digests("corpus/*")
    copied.configure(TINY)
    (line,) = errors(copied.run(code=1))
    assert "corpus/shows.txt: was not made by this workflow" in line
    assert copied.digests("corpus/*") == before


def test_a_folder_is_one_folder_in_any_spelling(tmp_path):
    flow = Workflow(tmp_path)
    flow.configure(changed(DEMO, demo={"folder": "./corpus/"}))
    flow.run()
    at_rest(flow)
    flow.configure(changed(DEMO, features={"list": "./corpus/shows.txt"}, demo={"frames": 4000}))
    flow.remove(".snakemake")
    flow.run()
    at_rest(flow)
    assert frames_of(flow) == 4000
    flow.configure(of_runs(DEMO, a={}, b={"demo": {"folder": "./corpus", "frames": 4000}}))
    (line,) = errors(flow.run(code=1))
    assert "make different features in one folder" in line


def test_a_configuration_file_over_another_one(copied):
    (copied.folder / "more.yaml").write_text("full: {iterations: 1}\n")
    copied.run("--configfile", "more.yaml")
    code, output = copied.verb("check", "--configfile", "config.yaml", "more.yaml")
    assert code == 0, output
    shutil.rmtree(copied.folder / "logs")
    assert copied.verb("check")[0] == 1
