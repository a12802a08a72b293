"""What is said of the faults of many shows."""

from __future__ import annotations

from gmmcore.data.readers import Fault, report


def test_many_equal_faults_are_told_once():
    faults = [Fault(f"s{i}", f"s{i}.h5", f"/a/s{i}.h5: no such file", "a", "b") for i in range(40)]
    faults.insert(7, Fault("other", "other.h5", "an empty file", "a", "b"))
    lines = report(faults, "list").splitlines()
    assert lines[0].startswith("list: 41 faults; ")
    assert len(lines) == 6
    assert "and 37 more shows with this fault" in lines[4]
    assert "show other" in lines[5]
