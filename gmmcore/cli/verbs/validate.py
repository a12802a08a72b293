"""Check a configuration.

Example: gmmcore validate config.yaml --print
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("config", nargs="?", default="config.yaml", help="by default config.yaml")
    parser.add_argument("--print", action="store_true", help="with all defaults filled in")
    parser.add_argument("--keys", action="store_true", help="print what a configuration may hold")
    parser.add_argument("--schema", action="store_true", help="the same, as JSON Schema")


def run(arguments: argparse.Namespace) -> None:
    """Print whether the configuration is valid, or what was asked for instead."""
    import json

    import yaml

    from gmmcore.config.configuration import read_configuration, resolve_runs
    from gmmcore.config.options import mapping, schema
    from gmmcore.config.settings import Settings

    if arguments.keys:
        print("\n".join(["| key | default | what it does |", "|---|---|---|"]))
        print("\n".join(_rows(schema(Settings))))
        return
    if arguments.schema:
        print(json.dumps(schema(Settings), indent=1))
        return
    runs = resolve_runs(read_configuration(arguments.config), arguments.config)
    if arguments.print:
        values = {name: mapping(settings) for name, settings in runs.items()}
        shown = values if len(values) > 1 else next(iter(values.values()))
        print(yaml.safe_dump(shown, sort_keys=False), end="")
    else:
        print(f"{arguments.config}: valid (the files it names are not checked)")


def _rows(schema: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    import yaml

    for key, part in schema["properties"].items():
        inner = "properties" in part
        default = "" if inner else yaml.safe_dump(part["default"], default_flow_style=True)
        default = default.partition("\n")[0]
        yield f"| {indent}`{key}` | {default} | {part['description']} |"
        if inner:
            yield from _rows(part, f"{indent}&nbsp; ")
