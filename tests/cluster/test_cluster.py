"""Trainings on a cluster, undisturbed."""

from __future__ import annotations

from cluster_flows import CONFIG, STAGES, submissions
from flows import PLAIN, Workflow, changed


def test_bytes_of_the_laptop_with_at_most_one_submission_a_stage(laptop, flow, slurm):
    log = flow.run()
    assert flow.made() == laptop.made()
    jobs = slurm.submitted(flow.folder)
    assert len(jobs) == submissions(log)
    # One packs the four shards, and one is the last stage. The other stages take seconds.
    assert sorted(job["Comment"] for job in jobs) == [
        "rule_iterate_wildcards_demo_full_64",
        "rule_shards_shard",
    ]
    assert "Nothing to be done" in flow.run("-n")
    # The same folder on the laptop.
    assert "Nothing to be done" in Workflow(flow.folder, forked=False).run("-n")


def test_every_stage_of_sidekits_method_is_one_submission(laptop, flow, slurm):
    values = changed(CONFIG, demo=PLAIN["demo"], components=8, method="sidekit")
    flow.configure(values)
    log = flow.run()
    assert submissions(log) <= 5 + 1  # The stages 1, 2, 4, 8 and full, and the shards.
    alone = Workflow(flow.folder, forked=False)
    made = flow.made()
    flow.remove("results", "logs", ".snakemake")
    alone.run()
    assert alone.made() == made


def test_statistics_as_files_between_jobs(laptop, flow, slurm):
    flow.configure(changed(CONFIG, demo=PLAIN["demo"], jobs=2))
    log = flow.run()
    assert flow.made() == laptop.made()
    # The shards, and two jobs for each of four iterations of the last stage.
    assert submissions(log) == 1 + 2 * 4 < 2 * STAGES
