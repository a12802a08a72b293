"""Reports and comparisons of whole runs, kept sizes and cautions."""

from __future__ import annotations

import re
import subprocess

import pytest
from flows import PLAIN, Workflow, changed, errors, jobs

pytestmark = pytest.mark.slow

RUNS = {
    **{key: value for key, value in PLAIN.items() if key != "run"},
    "report": True,
    "export": ["kaldi"],
    "keep": [2],
    "runs": {
        "a": {},
        "b": {"full": {"iterations": 0}},
        "c": {"features": {"normalisation": "cms"}},
    },
}
PAGES = ["a/report.html", "b/report.html", "c/report.html"]


@pytest.fixture(scope="module")
def compared(trained, tmp_path_factory) -> Workflow:
    """Three finished runs with their pages, not to be touched."""
    flow = trained.copy_to(tmp_path_factory.mktemp("compared") / "run")
    flow.remove("results", "logs", ".snakemake")
    flow.configure(RUNS)
    flow.log = flow.run()  # type: ignore[attr-defined]
    return flow


def pages(flow: Workflow) -> dict[str, str]:
    return {name: (flow.folder / "results" / name).read_text() for name in PAGES}


def test_pages_tell_times_and_cautions_and_runs_are_compared(compared):
    found = pages(compared)
    for name, text in found.items():
        assert 20_000 < len(text) < 5_000_000, name
    assert re.search("Time: [0-9.]+ s in the jobs of", found["a/report.html"])
    head, *rows = (compared.folder / "results/comparison.tsv").read_text().splitlines()
    table = [dict(zip(head.split("\t"), row.split("\t"), strict=True)) for row in rows]
    assert [row["group"] for row in table] == ["1", "1", "2"]
    assert [row["features.normalisation"] for row in table] == ["null", "null", "cms"]
    told = re.findall(r"warning: ((?:full|diag) 4 ended after .*)", compared.log)
    assert told
    assert all(any(line[1:] in text for text in found.values()) for line in told)


def test_the_comparison_and_the_reports_are_in_the_report_of_snakemake(compared, tmp_path):
    flow = compared.copy_to(tmp_path / "run")
    flow.run("--report", "all.html")
    page = (flow.folder / "all.html").read_text()
    for name in ("results/a/report.html", "results/comparison.tsv"):
        assert name in page
    assert "All runs side by side" in page


def test_sizes_that_are_kept_have_their_exports_and_checksums(compared):
    for run in ("a", "b", "c"):
        place = compared.folder / "results" / run
        assert (place / "diag/2.kaldi").stat().st_size > 0
        assert not (place / "diag/4.kaldi").exists()
        subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=place, check=True)
        assert "diag/2.kaldi" in (place / "SHA256SUMS").read_text()
        assert "report.html" not in (place / "SHA256SUMS").read_text()
    code, output = compared.verb("info", "results/a/diag/2.kaldi")
    assert code == 0
    assert "2 diagonal components" in output
    code, output = compared.verb("check")
    assert code == 0, output
    assert "belongs to no stage" not in output


def test_without_its_records_a_run_rests_and_other_settings_make_other_pages(compared, tmp_path):
    flow = compared.copy_to(tmp_path / "run")
    flow.remove(".snakemake")
    assert "Nothing to be done" in flow.run()
    flow.configure(changed(RUNS, runs={"a": {"pruning": 0.0, "export": ["alize"]}}))
    flow.run()
    names = {path.name for path in flow.folder.glob("results/a/ubm.*")}
    assert names == {"ubm.h5", "ubm.gmm"}
    assert "pruning" in (flow.folder / "results/comparison.tsv").read_text()
    assert "Nothing to be done" in flow.run()


def test_a_comparison_that_is_lost_is_made_again(compared, tmp_path):
    flow = compared.copy_to(tmp_path / "run")
    before = flow.digests("results/comparison.tsv")
    flow.remove("results/comparison.tsv", ".snakemake")
    assert set(jobs(flow.run())) == {"compare", "all", "total"}
    assert flow.digests("results/comparison.tsv") == before


def test_a_size_that_no_stage_has_is_one_line(compared, tmp_path):
    flow = compared.copy_to(tmp_path / "run")
    flow.configure({**RUNS, "keep": [3]})
    (line,) = errors(flow.run(code=1))
    assert "keep is [3], but no stage has 3 components; expected some of 1, 2, 4" in line
    flow.configure({**RUNS, "export": []})
    (line,) = errors(flow.run(code=1))
    assert "keep is [2], but export names no format" in line
