"""Statistics, models and scores in the workflow: what makes them again, and their bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from flows import PLAIN, ROOT, TINY, Workflow, changed, errors, jobs

RESULTS = "results/tiny"


@pytest.fixture
def scored(copied: Workflow) -> Workflow:
    """A finished training, with lists of models and trials of which nothing is made yet."""
    shows = (copied.folder / "corpus/shows.txt").read_text().split()
    shows = [show for show in shows if not show.startswith("#")][-6:]
    (copied.folder / "corpus/test.txt").write_text("\n".join(shows))
    write(copied, "enrolment.txt", [f"m{i} {show}" for i, show in enumerate(shows[:3])])
    write(copied, "trials.txt", trials(shows))
    copied.configure(configuration())
    return copied


def configuration(**verification: object) -> dict[str, object]:
    lists = {"enrolment": "enrolment.txt", "trials": "trials.txt"}
    return changed(
        PLAIN,
        statistics={"test": {"list": "corpus/test.txt"}},
        verification={**lists, **verification},
    )


def write(flow: Workflow, name: str, lines: list[str]) -> None:
    (flow.folder / name).write_text("\n".join(lines) + "\n")


def trials(shows: list[str]) -> list[str]:
    return [
        f"m{i} {show} {'target' if i == j % 3 else 'nontarget'}"
        for i in range(3)
        for j, show in enumerate(shows)
    ]


def steps(log: str) -> set[str]:
    """The rules that a run has called, but for those that any change of the settings calls."""
    return {*jobs(log)} - {"checksums", "total", "all"}


def test_what_is_made_and_made_again(scored):
    log = scored.run()
    assert steps(log) == {"statistics", "adapt", "trials"}
    assert "% of 18 trials, 6 of them target trials" in log
    made = scored.made()
    assert f"{RESULTS}/statistics/test.h5" in made
    assert scored.verb("check")[0] == 0
    assert "finished" in scored.verb("status")[1]
    assert "Nothing to be done" in scored.run()
    # Whatever is lost or damaged is made again, with the same bytes, for any number of cores.
    scored.remove(f"{RESULTS}/statistics", f"{RESULTS}/scores.h5")
    scored.run("--cores", "1")
    assert scored.made() == made
    path = scored.folder / RESULTS / "models.h5"
    path.write_bytes(path.read_bytes()[:-100])
    assert "models.h5" in scored.heal()
    assert scored.made() == made
    # A list is an input by its digest, a show by its size and time.
    lines = (scored.folder / "trials.txt").read_text().splitlines()
    write(scored, "trials.txt", lines[:-1])
    assert steps(scored.run()) == {"trials"}
    assert scored.verb("check")[0] == 0
    write(scored, "trials.txt", lines)
    scored.configure(configuration(relevance=4))
    assert steps(scored.run()) == {"adapt", "trials"}
    write(scored, "corpus/test.txt", (scored.folder / "corpus/test.txt").read_text().split()[::-1])
    assert "statistics" in steps(scored.run())
    scored.configure(configuration())
    scored.run()
    assert scored.made() == made


def test_a_module_with_a_prefix_and_a_list_that_the_workflow_makes(scored):
    lists = {"test": {"list": "corpus/test.txt"}}
    config = {**configuration(scoring="ratio"), "statistics": lists, "report": False}
    config["features"] = {**config["features"], "shards": 1}
    config["full"] = {"iterations": 0}
    (scored.folder / "Snakefile").write_text(
        f"module gmm:\n    snakefile: '{ROOT}/Snakefile'\n    config: {config!r}\n"
        "    prefix: 'mine/'\n\nuse rule * from gmm as gmm_*\n"
    )
    scored.run("-s", "Snakefile")
    folder = scored.folder / "mine" / RESULTS
    assert (folder / "scores.tsv").exists()
    assert (folder / "statistics/test.h5").exists()
    assert "Nothing to be done" in scored.run("-s", "Snakefile")
    scored.configure(changed(TINY, statistics={"all": {"list": "./corpus/shows.txt"}}))
    scored.remove("corpus")
    scored.run()
    assert (scored.folder / RESULTS / "statistics/all.h5").exists()
    assert "Nothing to be done" in scored.run()


def test_ratios_and_mistakes(scored):
    scored.configure({**configuration(scoring="ratio"), "report": True})
    scored.run()
    page = (scored.folder / RESULTS / "report.html").read_text()
    assert "qual error rate" in page
    assert "false alarms" in page  # The curve of errors is there.
    made = scored.made()
    scored.remove(f"{RESULTS}/scores.tsv")
    scored.run("--cores", "1")
    assert scored.made() == made
    write(scored, "trials.txt", ["m0 nobody"])
    (line,) = errors(scored.run(code=1))
    assert line.startswith("gmmcore trials: error: trials.txt: 1 show without frames, such as nobo")
    assert not Path(scored.folder, RESULTS, "scores.tsv").exists()
    scored.remove("trials.txt")
    assert "trials.txt: cannot be read" in scored.run(code=1)
