"""The rooms of the package: few, with imports that only go down, and a core that stands alone."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gmmcore

PACKAGE = Path(gmmcore.__file__).parent
FLOORS = {
    room: floor
    for floor, rooms in enumerate(
        [
            "errors",
            "files core",
            "config formats",
            "data",
            "workflow",
            "report",
            "interfaces",
            "cli",
        ]
    )
    for room in rooms.split()
}


def modules() -> dict[str, ast.Module]:
    """All modules but the package itself, which imports what is asked of it."""
    names = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    del names["gmmcore.__init__"]
    return {
        name.removesuffix(".__init__"): ast.parse(path.read_text()) for name, path in names.items()
    }


MODULES = modules()


def imports(name: str) -> Iterator[str]:
    """The modules of the package that one imports, in functions too."""
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} has a relative import"
            found = [f"{node.module}.{one.name}" for one in node.names]
        elif isinstance(node, ast.Import):
            found = [one.name for one in node.names]
        else:
            continue
        for one in found:
            one = one if one in MODULES else one.rpartition(".")[0]
            if one in MODULES and one != name:
                yield one


def room(name: str) -> str:
    return name.split(".")[1]


def test_the_package_has_few_names():
    names = {path.stem for path in PACKAGE.iterdir()} - {"__init__", "__pycache__", "py"}
    assert names <= set(FLOORS)
    assert len(FLOORS) <= 10


def test_the_page_of_the_design_names_every_module():
    tree = (PACKAGE.parent / "docs/design.md").read_text().split("```")[1]
    there = {path.stem for path in PACKAGE.rglob("*.py") if path.parent.name != "readers"}
    assert set(re.findall(r"(\w+)\.py", tree)) == there - {"__init__"}


def test_imports_only_go_down():
    above = [
        f"{name} imports {other}"
        for name in MODULES
        for other in imports(name)
        if room(name) != room(other) and FLOORS[room(name)] <= FLOORS[room(other)]
    ]
    assert not above


def test_imports_have_no_circles():
    graphlib.TopologicalSorter({name: set(imports(name)) for name in MODULES}).prepare()


ALONE = """
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top == "gmmcore":
            allowed = name == top or name.split(".")[1] in ("core", "errors")
        else:
            allowed = top in ("numpy", "scipy") or top in sys.stdlib_module_names
        if not allowed:
            raise ImportError(f"{name} is not for the core")

sys.meta_path.insert(0, Blocked())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_the_core_needs_numpy_and_scipy_alone():
    core = [name for name in MODULES if room(name) == "core"]
    command = [sys.executable, "-c", ALONE, *core]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr


def test_python_needs_no_snakemake_and_no_message_names_a_package_that_no_index_has():
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.j2")]:
        text = path.read_text()
        assert not re.search(r"^ *(import|from) snakemake", text, re.MULTILINE), path
        assert not re.search(r"install\W+(-\S+ )*gmmcore", text), path
