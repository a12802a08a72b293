"""Check a configuration."""

from __future__ import annotations

import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("config", help="a config.yaml")
    parser.add_argument("--print", action="store_true", help="with all defaults filled in")


def run(arguments: argparse.Namespace) -> None:
    """Say whether the configuration is one that the workflow takes."""
    import yaml

    from gmmcore.configuration import read_configuration, resolve_runs

    runs = resolve_runs(read_configuration(arguments.config), arguments.config)
    if arguments.print:
        values = runs if len(runs) > 1 else next(iter(runs.values()))
        print(yaml.safe_dump(values, sort_keys=False), end="")
    else:
        print(f"{arguments.config}: valid (the files it names are not checked)")
