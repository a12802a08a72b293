"""Verbs that still have a module each."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from gmmcore.cli.verb import VERBS, Verb


def _verb(name: str, text: str) -> Verb:
    def module() -> object:
        return import_module(f"gmmcore.cli.verbs.{name}")

    def configure(parser: argparse.ArgumentParser) -> None:
        module().configure(parser)  # type: ignore[attr-defined]

    return Verb(text, (configure,), lambda given: module().run(given))  # type: ignore[attr-defined]


for path in (Path(__file__).parent / "verbs").glob("[a-z]*.py"):
    VERBS[path.stem] = _verb(path.stem, path.read_text("utf-8").split('"""')[1].rstrip())
