"""What whoever knows Snakemake expects of a workflow, each line of it on the tiny training."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from flows import FIRST, PLAIN, ROOT, TINY, Workflow, changed, errors, iterations, jobs

from gmmcore.data.check import shard_paths
from gmmcore.data.shows import ShowTable

pytestmark = pytest.mark.slow

WHOLE = {"pack", "iterate", "finish", "all"}
RESTING = "Nothing to be done"
RESULTS = "results/**/[!.]*"


def assert_same(flow: Workflow, other: Workflow) -> None:
    """All that was asked for is there with the same bytes, and `gmmcore check` agrees."""
    assert flow.made() == other.made()
    assert len(flow.made()) > 20
    code, output = flow.verb("check")
    assert code == 0, output


def runs_of(runs: dict[str, Any]) -> dict[str, Any]:
    """A configuration of several runs."""
    return {"runs": runs} | {key: value for key, value in PLAIN.items() if key != "run"}


def made_in(flow: Workflow) -> list[str]:
    """Names of all results but the stamps, which any start writes."""
    names = {path.name for path in flow.folder.glob("results/**/*.*")}
    return sorted(names - {"settings.json", "source.json"})


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
    log = flow.run("-n")
    assert jobs(log) == dict.fromkeys(WHOLE | {"demo"}, 1) | {"total": 5}
    assert "tiny/full/4: stages diag 1 to full 4 (2 threads" in log
    assert made_in(flow) == []


def test_the_graphs_and_the_summary_are_true_before_in_the_middle_and_after(fresh):
    def look() -> tuple[set[str], dict[str, tuple[str, str]]]:
        graph = rules_in(fresh.run("--rulegraph"))
        assert rules_in(fresh.run("--dag")) == graph
        return graph, statuses(fresh.run("--summary"))

    graph, files = look()
    assert graph == WHOLE
    assert {plan for _, plan in files.values()} == {"update pending"}
    fresh.run("results/tiny/diag/2.h5")
    graph, files = look()
    assert graph == WHOLE
    assert files["results/tiny/full/4.h5"] == ("iterate", "update pending")
    fresh.run()
    graph, files = look()
    assert graph == WHOLE
    assert {plan for _, plan in files.values()} == {"no update"}
    for name, rule in [("full/4", "iterate"), ("ubm", "finish")]:
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


@pytest.mark.parametrize("options", [["--forceall"], ["-R", "iterate"]])
def test_what_is_made_again_by_force_has_the_same_bytes(trained, copied, options):
    log = copied.run(*options)
    assert jobs(log)["iterate"] == 1
    assert iterations(log) == []  # they are found to be there
    assert_same(copied, trained)
    assert RESTING in copied.run()


@pytest.mark.parametrize("what", ["results/tiny/full/4.h5", "pack", "iterate"])
def test_until_a_rule_or_a_file_and_then_to_the_end(trained, fresh, what):
    fresh.run("--until", what)
    assert (fresh.folder / "results/tiny/full/4.h5").exists() == (what != "pack")
    assert not (fresh.folder / "results/tiny/ubm.h5").exists()
    fresh.run()
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
    assert made_in(fresh) == []
    fresh.run()
    assert_same(fresh, trained)


def test_after_all_output_is_deleted_the_same_command_gives_the_same_bytes(trained, copied):
    copied.run("--delete-all-output")
    # Iterations and shards that are there are in no graph.
    kept = [path for path in copied.made() if not re.search(r"/\d+\.h5$|\.npy$", path)]
    assert kept == []
    copied.run()
    assert_same(copied, trained)


def test_a_file_is_made_by_its_name(trained, fresh):
    log = fresh.run("results/tiny/diag/2.h5")
    assert iterations(log) == FIRST[:2]
    assert not (fresh.folder / "results/tiny/diag/4/000.h5").exists()
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


@pytest.mark.parametrize(
    ("option", "name"), [("-d", 'with spaces, it\'s "so"'), ("--directory", "elsewhere")]
)
def test_another_folder_can_be_worked_in(trained, fresh, tmp_path, option, name):
    folder = tmp_path / name
    fresh.folder.rename(folder)
    Workflow(tmp_path).run(option, name if option == "-d" else str(folder))
    assert_same(Workflow(folder), trained)
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
    expected = trained.digests(RESULTS)
    found = Workflow(place / "first").digests(RESULTS)
    assert found == expected
    alone = trained.copy_to(tmp_path / "alone")
    alone.configure(other)
    alone.run()
    found = Workflow(place / "second").digests("results/other/**/[!.]*")
    assert found == alone.digests("results/other/**/[!.]*")
    assert RESTING in fresh.run("-s", "Snakefile")
    # The prefix hides neither damage nor what is left to do.
    (place / "first/results/tiny/diag/4.h5").write_bytes(b"")
    assert iterations(fresh.run("-s", "Snakefile")) == []
    # The stamp of the stage has another time.
    found = Workflow(place / "first").digests()
    assert found == trained.digests()


def module_of(flow: Workflow, before: str = "", after: str = "") -> None:
    """A Snakefile of the user's with the workflow as a module."""
    config = repr(flow.config)
    (flow.folder / "Snakefile").write_text(
        f"{before}module gmm:\n    snakefile: {str(ROOT / 'Snakefile')!r}\n    config: {config}\n"
        f'    prefix: "background"\n\n\nuse rule * from gmm as gmm_*\n{after}'
    )


def test_the_first_rule_of_a_users_workflow_stays_its_default(fresh):
    fresh.configure(changed(PLAIN, components=2, iterations=[1], full={"iterations": 0}))
    sums = "background/results/tiny/SHA256SUMS"
    own = f'rule mine:\n    input: "{sums}"\n    output: "final.txt"\n'
    module_of(fresh, own + '    shell: "touch {output}"\n\n\n')
    fresh.run("-s", "Snakefile")
    assert (fresh.folder / "final.txt").exists()
    code, output = fresh.verb("check", "background/results/tiny")
    assert code == 0, output
    (fresh.folder / "whole.yaml").write_text(yaml.safe_dump({"gmm": fresh.config}))
    section = ["--configfile", "whole.yaml", "--section", "gmm"]
    assert fresh.verb("check", "background/results/tiny", *section)[0] == 0


def test_a_failure_is_one_in_a_workflow_whose_shell_ignores_pipes(fresh):
    module_of(fresh, 'shell.prefix("set +o pipefail; ")\n\n\n')
    fresh.run("-s", "Snakefile")
    show = next(iter(sorted((fresh.folder / "corpus").glob("*.h5"))))
    show.write_bytes(show.read_bytes()[:1000])
    assert errors(fresh.run("-s", "Snakefile", code=1))


def test_jobs_find_the_program_of_an_environment_that_is_not_activated(fresh):
    fresh.forked = False
    fresh.configure(changed(PLAIN, components=2, iterations=[1], full={"iterations": 0}))
    path = os.pathsep.join(
        folder
        for folder in os.environ["PATH"].split(os.pathsep)
        if not shutil.which("gmmcore", path=folder)
    )
    fresh.environment = lambda: {**os.environ, "PATH": path}
    fresh.run()
    assert (fresh.folder / "results/tiny/ubm.h5").exists()


def test_two_calls_at_once_make_different_runs(trained, fresh, tmp_path):
    normalised = {"components": 2, "features": {"normalisation": "cmvn"}}
    fresh.configure(runs_of({"tiny": {}, "small": normalised}))
    fresh.forked = False
    first = fresh.start("results/tiny/SHA256SUMS", "--cores", "1")
    second = fresh.start("results/small/SHA256SUMS", "--cores", "1")
    for process in (first, second):
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    assert RESTING in fresh.run()
    assert fresh.made().items() >= trained.made().items()
    code, output = fresh.verb("check")
    assert code == 0, output


def test_cores_and_memory_follow_from_the_shapes(fresh):
    def resources(stage: str) -> tuple[int, int]:
        options = ["--workflow-profile", "none", "--cores", "8"]
        log = fresh.run("-n", f"results/tiny/{stage}.h5", *options)
        (found,) = re.findall(rf": tiny/{stage}: .* \((\d+) threads, mem_mb=(\d+), gpu=0", log)
        return int(found[0]), int(found[1])

    assert resources("full/4") == (8, 4803)
    # A mixture of 4,096 full covariances of 60 coefficients takes 118 MB. The stage has twelve, and
    # each of its eight processes two. Unknown frames take `memory`, a subset less.
    fresh.configure({**PLAIN, "components": 4096})
    assert resources("diag/4096") == (8, 1323)
    assert resources("full/4096") == (8, 8103)
    # Small stages of several runs share the cores, large ones do not.
    fresh.configure(runs_of({"tiny": {"components": 4096}, "other": {}}))
    assert resources("diag/4")[0] == 4
    assert resources("full/4096")[0] == 8


def test_every_stage_leaves_the_seconds_that_it_took(trained):
    files = trained.folder.glob("logs/**/*.seconds")
    stages = {f"tiny/{stage}.seconds" for stage in ("diag/1", "diag/2", "diag/4", "full/4")}
    assert {str(path.relative_to(trained.folder / "logs")) for path in files} == stages


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
    "other": {"components": 2, "full": {"iterations": 0}, "features": {"normalisation": "cmvn"}},
}


def test_runs_of_one_call_share_what_they_have_in_common(trained, fresh, tmp_path):
    fresh.configure(runs_of(RUNS))
    log = fresh.run()
    assert len(list(fresh.folder.glob("results/features/*/corpus.json"))) == 2
    assert len(re.findall(r"shard \d+: \d", log)) == 2 * 3
    made = iterations(log)
    assert sorted(made) == sorted([*FIRST, *FIRST[:5], *FIRST[:2], *FIRST[:2]])
    found = fresh.made()
    assert trained.made().items() <= found.items()
    for name in ("small", "other"):
        alone = trained.copy_to(tmp_path / name)
        alone.remove("results", ".snakemake")
        alone.configure(changed(PLAIN, **RUNS[name], run=name))
        alone.run()
        assert alone.made().items() <= found.items()
    code, output = fresh.verb("check")
    assert code == 0, output
    assert RESTING in fresh.run()


def test_iterations_that_other_settings_did_without_are_made_again(fresh):
    """Snakemake remembers what they were made from, though they were removed."""
    longer, shorter = {**PLAIN, "jobs": 2, "precision": "double"}, {**PLAIN, "jobs": 2}
    fresh.configure(longer)
    fresh.run()
    made = fresh.made()
    fresh.configure({**shorter, "llk_gain": 100.0})
    fresh.run()
    assert "results/tiny/diag/4/003.h5" not in fresh.made()
    fresh.configure(longer)
    assert iterations(fresh.run()) == FIRST
    assert fresh.made() == made


def test_a_stage_of_another_first_mixture_does_not_say_how_many_iterations_follow(fresh):
    """The divisions of `principal` are better, so that its stage ends earlier."""
    wanted = {**PLAIN, "jobs": 2, "frames_per_component": None, "iterations": [2, 4]}
    fresh.configure({**wanted, "method": "sidekit", "llk_gain": -1.0})
    fresh.run()
    assert "results/tiny/diag/4/004.h5" in fresh.made()
    fresh.configure({**wanted, "llk_gain": 0.01})
    log = fresh.run()
    assert iterations(log) == FIRST[:4] + FIRST[5:]
    assert RESTING in fresh.run()


def test_statistics_in_files_between_jobs_give_the_same_bytes(trained, fresh):
    fresh.configure({**PLAIN, "jobs": 2})
    assert {"accumulate", "maximise"} < rules_in(fresh.run("--rulegraph"))
    log = fresh.run()
    assert iterations(log) == FIRST
    assert not list(fresh.folder.glob("results/**/*.stats.h5"))
    assert_same(fresh, trained)
    assert RESTING in fresh.run()
    # The graph does not grow with the iterations that are done.
    assert rules_in(fresh.run("--rulegraph")) == WHOLE | {"initialise", "split", "diag2full"}


def test_other_settings_make_all_iterations_of_a_scattered_stage_again(fresh, tmp_path):
    """Those of the old first mixture are no iterations of the new one."""
    values = {"iterations": [2], "full": {"iterations": 4}, "llk_gain": -1.0}
    floors = [changed(PLAIN, **values, variance={"floor": floor}) for floor in (0.01, 0.5)]
    for floor in floors:
        fresh.configure({**floor, "jobs": 3})
        log = fresh.run()
        # Each is made by jobs, none by the job that ends the stage.
        assert log.count("Finished jobid") - log.count("(Rule: accumulate)") < 40
        assert log.count("(Rule: maximise)") == len(iterations(log)) == 8
        assert RESTING in fresh.run()
    alone = fresh.copy_to(tmp_path / "alone")
    alone.remove("results", "logs", ".snakemake")
    alone.configure(floors[1])
    alone.run()
    assert_same(fresh, alone)


@pytest.mark.parametrize("state", [True, False])
def test_a_scattered_stage_goes_on_after_a_loss(trained, fresh, state):
    fresh.configure({**PLAIN, "jobs": 3})
    fresh.run()
    fresh.run("--forceall")
    fresh.remove(
        *(f"results/tiny/{name}" for name in ("full/4/002.h5", "full/4.h5", "diag/4/001.h5"))
    )
    if not state:
        fresh.remove(".snakemake")
    fresh.heal()
    assert_same(fresh, trained)


def test_a_start_with_thousands_of_shards_is_quick_and_reads_none(copied):
    (place,) = copied.folder.glob("results/features/*")
    products = [copied.folder / name for name in copied.made()]
    products.sort(key=lambda path: path.stat().st_mtime_ns)
    for number in range(4000):
        (copied.folder / f"corpus/{number}.h5").touch()
    (copied.folder / "corpus/shows.txt").write_text("\n".join(map(str, range(4000))) + "\n")
    copied.run("-n")
    facts = {**ShowTable.read_facts(place / "shows.tsv"), "shards": 4000}
    facts["recipe_digests"] = {f"{number:04d}": f"{number:064x}" for number in range(4000)}
    ShowTable(facts, []).write(place / "shows.tsv")
    for path in shard_paths(place / "shows.tsv").values():
        Path(path).touch()
    for product in products:
        product.touch()
    # The dates of benchmarks count as those of outputs.
    copied.remove(".snakemake", "logs")
    start = time.monotonic()
    assert RESTING in copied.run()
    assert time.monotonic() - start < 5
    # The change of one file is seen.
    (copied.folder / "corpus/77.h5").touch()
    assert jobs(copied.run("-n"))["pack"] == 1


@pytest.mark.parametrize(("first", "then"), [("auto", 2)])
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
