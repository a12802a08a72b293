"""What a verb is: a function of parsed arguments, with its arguments declared beside it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

from gmmcore.config.options import Options, add_options
from gmmcore.errors import GmmcoreError
from gmmcore.files import MIXTURE_FILES, read_json

Declare = Callable[[argparse.ArgumentParser], object]
Run = Callable[[argparse.Namespace], None]


class Verb(NamedTuple):
    """A verb of the command line; `text` is its help."""

    text: str
    arguments: tuple[Declare, ...]
    run: Run


VERBS: dict[str, Verb] = {}


def verb(*arguments: Declare) -> Callable[[Run], Run]:
    """Make a verb of a function, whose docstring is the verb's help."""

    def register(run: Run) -> Run:
        lines = (run.__doc__ or "").rstrip().splitlines()
        # Python 3.13 has taken the indentation away.
        VERBS[run.__name__] = Verb("\n".join(s.removeprefix("    ") for s in lines), arguments, run)
        return run

    return register


def call(name: str, *words: object) -> None:
    """Run a verb in this process, with the words of its command line."""
    chosen = VERBS[name]
    parser = argparse.ArgumentParser(prog=f"gmmcore {name}")
    for declare in chosen.arguments:
        declare(parser)
    chosen.run(parser.parse_args([str(word) for word in words]))


def argument(*names: str, **options: object) -> Declare:
    """Declare an argument, as `ArgumentParser.add_argument` does."""
    return lambda parser: parser.add_argument(*names, **options)  # type: ignore[arg-type]


def options(kind: type[Options]) -> Declare:
    """Declare an argument for each of some options."""
    return lambda parser: add_options(parser, kind)


def stamp(section: str) -> Declare:
    """Declare ``--settings``: a file of the workflow, of which a section holds arguments."""

    class FromFile(argparse.Action):
        def __call__(self, _: object, given: argparse.Namespace, path: Any, *__: object) -> None:
            setattr(given, self.dest, path)
            for name, value in read_json(path)[section].items():
                setattr(given, name, value)

    text = "settings.json or source.json of the workflow, in place of the arguments in it"
    return argument("--settings", action=FromFile, metavar="FILE", help=text)


def configuration_of(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Read the configuration of ``--configfile`` and ``--section``; return how messages name it."""
    from gmmcore.config.configuration import merged, read_configuration

    config = " ".join(arguments.configfile)
    values: dict[str, Any] = {}
    for path in arguments.configfile:
        values = merged(values, read_configuration(path))
    if arguments.section is not None:
        config += f": {arguments.section}"
        values = values.get(arguments.section, {})
        if not isinstance(values, dict):
            raise GmmcoreError(f"{config}: holds no keys; the configuration of runs was expected")
    return values, config


CONFIGURATION = (
    argument(
        "--configfile",
        nargs="+",
        metavar="FILE",
        default=["config.yaml"],
        help="what Snakemake is given; later files override earlier ones",
    ),
    argument(
        "--section",
        metavar="KEY",
        help="the part of the configuration that a module is given, whose results lie elsewhere",
    ),
)
CORPUS = argument("--corpus", required=True, help="corpus.json; the shards lie beside it")
THREADS = argument("--threads", type=int, default=1, help="do not change the result")
OUTPUT = argument("--output", required=True)
PREFIX = argument("--prefix", default="", help="of the datasets in a SIDEKIT file read")
INPUT_FORMAT = argument(
    "--input-format",
    default="auto",
    choices=("auto", *MIXTURE_FILES),
    metavar="NAME",
    help=f"of the mixture read: {', '.join(MIXTURE_FILES)}; auto, the default, looks into the file",
)
