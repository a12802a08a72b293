"""What whoever knows Snakemake expects of a workflow, each line of it on the tiny training."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest
import yaml
from flows import FIRST, PLAIN, ROOT, TINY, Workflow, changed, errors, iterations, jobs

pytestmark = pytest.mark.slow

CHAIN = {"initialise": 1, "split": 2, "diag2full": 1, "iterate": 4}
WHOLE = {"shows", "shard", "corpus", *CHAIN, "finish", "history", "checksums", "all"}
RESTING = "Nothing to be done"


def assert_same(flow: Workflow, other: Workflow) -> None:
    """All that was asked for is there with the same bytes, and `gmmcore check` agrees."""
    assert flow.made() == other.made()
    assert len(flow.made()) > 20
    code, output = flow.verb("check")
    assert code == 0, output


def rules_in(graph: str) -> set[str]:
    """Rules in what `--rulegraph` or `--dag` printed."""
    return {name.split("\\n")[0] for name in re.findall(r'\[label = "(.+?)"', graph)}


def statuses(summary: str) -> dict[str, tuple[str, str]]:
    """Rule and plan of every file in what `--summary` printed."""
    rows = [line.split("\t") for line in summary.splitlines() if line.count("\t") == 5]
    return {row[0]: (row[2], row[5]) for row in rows[1:]}


def test_a_dry_run_of_a_new_configuration_shows_every_stage(tmp_path):
    flow = Workflow(tmp_path)
    flow.configure(TINY)
    found = jobs(flow.run("-n"))
    assert {name: found[name] for name in CHAIN} == CHAIN
    assert set(found) - {"total"} == (WHOLE | {"demo", "recovery"}) - {"shard"}
    assert not (tmp_path / "results").exists()


def test_the_graphs_and_the_summary_are_true_before_in_the_middle_and_after(fresh):
    def look() -> tuple[set[str], dict[str, tuple[str, str]]]:
        graph = rules_in(fresh.run("--rulegraph"))
        assert rules_in(fresh.run("--dag")) == graph
        return graph, statuses(fresh.run("--summary"))

    graph, files = look()
    # Shards are known once the list is read.
    assert graph == WHOLE - {"shard"}
    assert {plan for _, plan in files.values()} == {"update pending"}
    fresh.run("results/tiny/diag/2.h5")
    graph, files = look()
    assert graph == WHOLE
    assert files["results/tiny/diag/2.h5"] == ("iterate", "no update")
    assert files["results/tiny/diag/4/000.h5"] == ("split", "update pending")
    fresh.run()
    graph, files = look()
    assert graph == WHOLE
    assert {plan for _, plan in files.values()} == {"no update"}
    for name, rule in [("full/4/000", "diag2full"), ("full/4", "iterate"), ("ubm", "finish")]:
        assert files[f"results/tiny/{name}.h5"] == (rule, "no update")


@pytest.mark.parametrize("name", ["report.html", "report.zip"])
def test_a_report_holds_mixture_history_and_their_captions(copied, name):
    copied.run("--report", name)
    path = copied.folder / name
    if name.endswith("zip"):
        with zipfile.ZipFile(path) as archive:
            files = archive.namelist()
            assert [part for part in files if part.endswith("ubm.h5")]
            page = "".join(archive.read(part).decode() for part in files if "html" in part)
    else:
        page = path.read_text()
    for file in ("ubm.h5", "history.tsv"):
        assert f"results/tiny/{file}" in page
    for caption in ("mixture", "history"):
        words = (ROOT / f"docs/captions/{caption}.rst").read_text().split()[:4]
        assert " ".join(words) in page
    assert "missing" not in copied.run("--report", "again.html").lower()


@pytest.mark.parametrize("options", [["--forceall"], ["-R", "iterate"], ["-R", "shows"]])
def test_what_is_made_again_by_force_has_the_same_bytes(trained, copied, options):
    log = copied.run(*options)
    assert jobs(log)["iterate"] == 4
    assert iterations(log) == []  # they are found to be there
    assert_same(copied, trained)
    assert RESTING in copied.run()


def test_until_a_rule_and_then_to_the_end(trained, fresh):
    fresh.run("--until", "split")
    assert (fresh.folder / "results/tiny/diag/4/000.h5").exists()
    assert not (fresh.folder / "results/tiny/diag/4.h5").exists()
    assert iterations(fresh.run()) == FIRST[2:]
    assert_same(fresh, trained)


def test_touching_a_finished_run_changes_nothing(trained, copied):
    copied.run("--touch")
    assert RESTING in copied.run()
    assert_same(copied, trained)


def test_touching_makes_a_copy_without_its_times_current(trained, copied):
    for path in sorted(copied.folder.glob("results/**/*.*"), reverse=True):
        path.touch()
    copied.remove(".snakemake")
    copied.run("--touch")
    assert RESTING in copied.run()
    assert_same(copied, trained)


def test_touching_a_new_folder_makes_nothing_and_hinders_nothing(trained, fresh):
    fresh.run("--touch")
    assert not list(fresh.folder.glob("results/**/*.*"))
    fresh.run()
    assert_same(fresh, trained)


def test_after_all_output_is_deleted_the_same_command_gives_the_same_bytes(trained, copied):
    copied.run("--delete-all-output")
    kept = [path for path in copied.made() if not re.search(r"/\d+\.h5$", path)]
    assert kept == []
    copied.run()
    assert_same(copied, trained)


def test_a_file_is_made_by_its_name(trained, fresh):
    log = fresh.run("results/tiny/diag/2.h5")
    assert iterations(log) == FIRST[:2]
    assert not (fresh.folder / "results/tiny/diag/4").exists()
    found = fresh.digests("results/tiny/**/*.h5")
    assert found.items() <= trained.digests("results/tiny/**/*.h5").items()


@pytest.mark.parametrize(
    "target", ["nonsense", "results/tiny/diag/3.h5", "results/other/ubm.h5", "results/tiny/ubm.xyz"]
)
def test_a_file_that_no_rule_makes_is_told_in_one_line(copied, target):
    log = copied.run(target, code=1)
    assert [line for line in log.splitlines() if target in line] == [
        f"No rule to produce {target} (if you use input functions make sure that they don't raise "
        "unexpected exceptions)."
    ]
    assert "Traceback" not in log


@pytest.mark.parametrize("option", ["-d", "--directory"])
@pytest.mark.parametrize("name", ["elsewhere", "with spaces, it's \"so\""])
def test_another_folder_can_be_worked_in(trained, fresh, tmp_path, option, name):
    folder = tmp_path / name
    fresh.folder.rename(folder)
    flow = Workflow(folder)
    here = Workflow(tmp_path)
    if option == "-d":  # relative
        here.run(option, name)
    else:
        here.run(option, str(folder))
    assert_same(flow, trained)
    assert not (tmp_path / "results").exists()


def test_two_modules_with_prefixes_are_two_trainings(trained, fresh, tmp_path):
    other = {**PLAIN, "run": "other", "components": 2}
    text = ""
    for name, config in (("first", PLAIN), ("second", other)):
        text += f"""
module {name}:
    snakefile: {str(ROOT / "Snakefile")!r}
    config: {json.dumps(config).replace("null", "None").replace("false", "False")}
    prefix: "in/{name}"
use rule * from {name} as {name}_*
"""
    text += 'rule everything:\n    default_target: True\n    input: "in/first/results/tiny/ubm.h5",'
    text += ' "in/second/results/other/ubm.h5", rules.first_all.input, rules.second_all.input\n'
    (fresh.folder / "Snakefile").write_text(text)
    fresh.run("-s", "Snakefile")
    place = fresh.folder / "in"
    expected = trained.digests("results/**/*.*")
    found = Workflow(place / "first").digests("results/**/*.*")
    assert found == expected
    alone = trained.copy_to(tmp_path / "alone")
    alone.configure(other)
    alone.run()
    found = Workflow(place / "second").digests("results/other/**/*.*")
    assert found == alone.digests("results/other/**/*.*")
    assert RESTING in fresh.run("-s", "Snakefile")
    # The prefix hides neither damage nor what is left to do.
    (place / "first/results/tiny/diag/4/001.h5").write_bytes(b"")
    assert iterations(fresh.run("-s", "Snakefile")) == ["diag/4/1", "diag/4/2", "diag/4/3"]
    assert Workflow(place / "first").digests("results/**/*.*") == expected


def test_two_calls_at_once_make_different_runs(trained, fresh, tmp_path):
    normalised = {"components": 2, "features": {"normalisation": "cmvn"}}
    fresh.configure(changed(PLAIN, runs={"tiny": {}, "small": normalised}) | {"run": None})
    values = fresh.config
    del values["run"]
    fresh.configure(values)
    first = fresh.start("results/tiny/SHA256SUMS", "--cores", "1")
    second = fresh.start("results/small/SHA256SUMS", "--cores", "1")
    for process in (first, second):
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    assert RESTING in fresh.run()
    assert fresh.made().items() >= trained.made().items()
    code, output = fresh.verb("check")
    assert code == 0, output


def test_cores_and_memory_follow_from_the_shapes(copied):
    def resources(**values: object) -> dict[str, tuple[int, int]]:
        copied.configure(changed(PLAIN, **values))
        log = copied.run("-n", "--forceall", "--workflow-profile", "none", "--cores", "8")
        found = re.findall(
            r"output: results/tiny/(\S+).h5\n(?:.*\n)*?    (?:threads: (\d+)\n    )?"
            r"resources: .*mem_mb=(\d+)",
            log,
        )
        return {stage: (int(threads or 1), int(memory)) for stage, threads, memory in found}

    small = resources()
    assert small["full/4"] == (8, 400)
    large = resources(components=4096)
    assert large["diag/4096"][1] > small["diag/4"][1]
    assert large["full/4096"][1] > 4096 * 4 * 4 * 8 * 5 / 1e6 + 400
    assert large["full/4096"][1] > large["diag/4096"][1]


def test_every_job_that_works_for_long_leaves_a_benchmark(trained):
    names = {
        re.sub(r"[0-9a-f]{12}", "*", str(path.relative_to(trained.folder / "logs")))
        for path in trained.folder.glob("logs/**/*.benchmark.tsv")
    }
    stages = {f"tiny/{stage}.benchmark.tsv" for stage in ("diag/1", "diag/2", "diag/4", "full/4")}
    assert names == stages | {f"features/*/00{part}-*.benchmark.tsv" for part in range(3)}


def test_a_finished_run_rests_without_its_logs_and_without_records(trained, copied):
    assert RESTING in copied.run()
    copied.remove("logs")
    assert RESTING in copied.run()
    copied.remove(".snakemake")
    assert RESTING in copied.run()
    assert_same(copied, trained)


RUNS = {
    "small": {"components": 2, "full": {"iterations": 0}},
    "plain": {"full": {"iterations": 0}},
    "tiny": {},
    "other": {"features": {"normalisation": "cmvn"}, "components": 2},
}


def test_runs_of_one_call_share_what_they_have_in_common(trained, fresh, tmp_path):
    values = {**PLAIN, "runs": RUNS}
    del values["run"]
    fresh.configure(values)
    log = fresh.run()
    assert len(list(fresh.folder.glob("results/features/*/corpus.json"))) == 2
    assert log.count("\nshard 0: ") + log.count("\nshard 1: ") == 6 - log.count("\nshard 2: ") == 4
    made = iterations(log)
    # Those of `small`, of `plain` beyond it, of `tiny` beyond that, and those of `other`.
    assert sorted(made) == sorted([*FIRST, *FIRST[:2]])
    assert log.count(" are those of results/") == 3
    found = fresh.made()
    for name, overrides in RUNS.items():
        alone = trained.copy_to(tmp_path / name)
        alone.remove("results", ".snakemake")
        alone.configure(changed(PLAIN, **overrides, run=name))
        alone.run()
        assert alone.made().items() <= found.items()
    code, output = fresh.verb("check")
    assert code == 0, output
    assert RESTING in fresh.run()


@pytest.mark.parametrize("overrides", [{"jobs": 2}, {"jobs": 4}])
def test_statistics_in_files_between_jobs_give_the_same_bytes(trained, fresh, overrides):
    fresh.configure({**PLAIN, **overrides})
    log = fresh.run()
    assert iterations(log) == FIRST
    assert not list(fresh.folder.glob("results/**/*.stats.h5"))
    assert_same(fresh, trained)
    assert RESTING in fresh.run()
    assert {"accumulate", "maximise"} < rules_in(fresh.run("--rulegraph"))


@pytest.mark.parametrize(("first", "then"), [("auto", 2), (2, "auto"), (2, 3)])
def test_the_form_can_be_changed_in_the_middle(trained, fresh, first, then):
    fresh.configure({**PLAIN, "jobs": first, "iterations": [2, 1]})
    fresh.run("results/tiny/diag/4.h5")
    fresh.configure({**PLAIN, "jobs": then})
    assert iterations(fresh.run()) == FIRST[3:]
    assert_same(fresh, trained)
    fresh.configure({**PLAIN, "jobs": first})
    assert iterations(fresh.run()) == []
    assert_same(fresh, trained)


def test_the_lint_of_snakemake_is_content():
    flow = Workflow(ROOT)
    assert "Congratulations" in flow.run("--lint")


def test_the_slurm_profile_is_read_without_a_cluster(tmp_path):
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    assert profile["executor"] == "slurm"
    shutil.rmtree(tmp_path)
    assert Path(ROOT / "profiles/default/config.yaml").exists()
