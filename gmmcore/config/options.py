"""Options: fields of frozen dataclasses, each with a default, rules and a help text.

The configuration, its documentation and the arguments of the verbs are derived from these fields.
The rules are keywords of JSON Schema.
"""

from __future__ import annotations

import argparse
import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from gmmcore.errors import GmmcoreError

__all__ = [
    "FOLDER",
    "Options",
    "OptionsError",
    "add_options",
    "build",
    "mapping",
    "option",
    "options_of",
    "same",
    "schema",
    "section",
    "within",
    "words",
]

T = TypeVar("T", bound="Options")
R = TypeVar("R")

FOLDER = {"type": "string", "pattern": r"^[A-Za-z0-9_./-]+\Z"}
"""Rule for a folder that the workflow writes to."""

_TYPES: dict[str, tuple[Any, str]] = {
    "integer": (int, "a whole number"),
    "number": ((int, float), "a number"),
    "boolean": (bool, "true or false"),
    "string": (str, "text"),
    "array": ((list, tuple), "a list"),
}
_BOUNDS: dict[str, tuple[Any, str]] = {
    "minimum": (operator.ge, "at least"),
    "exclusiveMinimum": (operator.gt, "above"),
    "maximum": (operator.le, "at most"),
    "exclusiveMaximum": (operator.lt, "below"),
    "minItems": (lambda value, least: len(value) >= least, "its length at least"),
    "maxItems": (lambda value, most: len(value) <= most, "its length at most"),
    "pattern": (lambda value, text: re.search(text, value), "matching"),
    "items": (lambda value, rule: all(_fits(part, rule) for part in value), ""),
}


class OptionsError(GmmcoreError, ValueError):
    """Error raised for an invalid option; the message has the key, its value and what is valid."""


def option(default: Any, help: str, *rules: Mapping[str, Any], **rule: Any) -> Any:
    """Declare an option: a field of a subclass of `Options`.

    Parameters
    ----------
    default
        Default value. If it is None, or if `nullable` is true, the option may be None.
    help : str
        One line for the documentation and the command line.
    *rules, **rule
        What values are valid, in keywords of JSON Schema; with several rules, a value must fit
        one of them. Numbers must be finite unless `infinite` is true.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> from gmmcore.config.options import Options, build, option
    >>> @dataclass(frozen=True)
    ... class Settings(Options):
    ...     shards: int = option(4, "number of files", type="integer", minimum=1)
    >>> build(Settings, {"shards": 8})
    Settings(shards=8)
    """
    nullable = rule.pop("nullable", default is None)
    rules = rules or (rule,)
    return field(
        default=default, metadata={"help": help, "rules": rules, "nullable": nullable}, kw_only=True
    )


def same(kind: type[Options], name: str) -> Any:
    """Declare an option with the default, the rules and the help text of one of another class."""
    known = next(each for each in fields(kind) if each.name == name)
    return field(default=known.default, metadata=known.metadata, kw_only=True)


def section(kind: type[Options], help: str, short: str | None = None) -> Any:
    """Declare a field that holds other options; a value alone is that of the option `short`."""
    metadata = {"help": help, "section": kind, "short": short}
    return field(default_factory=kind, metadata=metadata, kw_only=True)


@dataclass(frozen=True)
class Options:
    """Base class of options, whose values are checked on construction."""

    def __post_init__(self) -> None:
        for each in fields(self):
            if "rules" not in each.metadata:
                continue
            value, rules = getattr(self, each.name), each.metadata["rules"]
            if value is None and each.metadata["nullable"]:
                continue
            if not any(_fits(value, rule) for rule in rules):
                wanted = " or ".join(map(_expectation, rules))
                raise OptionsError(f"{_key(each.name)} is {_found(value)}: {wanted} was expected")
            if isinstance(value, list):
                object.__setattr__(self, each.name, tuple(value))
            elif rules[0].get("type") == "number":
                object.__setattr__(self, each.name, float(value))


def build(kind: type[T], values: Mapping[str, Any]) -> T:
    """Make options from a mapping; missing keys have their defaults.

    Raises
    ------
    OptionsError
        If a key is unknown or has an invalid value.

    Examples
    --------
    >>> from gmmcore.config.options import build
    >>> from gmmcore.config.steps import EStep
    >>> build(EStep, {"precision": "double"})
    EStep(precision='double', pruning=2e-08)
    """
    known = {_key(each.name): each for each in fields(kind)}
    given: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise OptionsError(_unknown(key, [*known]))
        inner = known[key].metadata.get("section")
        if inner is None:
            given[known[key].name] = value
            continue
        short = known[key].metadata["short"]
        if short is not None and not isinstance(value, Mapping | None):
            value = {short: value}
        # An empty section, such as `variance:`, has its defaults, as one that is left out.
        if not isinstance(value, Mapping | None):
            raise OptionsError(f"{key} is {value!r}: keys with values were expected")
        given[known[key].name] = within(key, build, inner, value or {})
    return kind(**given)


def within(key: str, function: Callable[..., R], *arguments: Any) -> R:
    """Call a function, and add the section `key` to the keys in its errors."""
    try:
        return function(*arguments)
    except OptionsError as error:
        text = str(error)
        at = len("unknown key ") * text.startswith("unknown key ")
        raise OptionsError(f"{text[:at]}{key}.{text[at:]}") from None


def mapping(options: Options, kind: type[Options] | None = None) -> dict[str, Any]:
    """Return JSON values of which `build` makes the same options.

    If `kind` is given, only the options of this class are returned.
    """
    result = {}
    for each in fields(kind or options):
        value = getattr(options, each.name)
        if isinstance(value, Options):
            value = mapping(value)
        result[_key(each.name)] = [*value] if isinstance(value, tuple) else value
    return result


def schema(kind: type[Options]) -> dict[str, Any]:
    """Return the JSON Schema of the mappings that `build` accepts."""
    properties: dict[str, Any] = {}
    for each in fields(kind):
        part: dict[str, Any] = {"description": each.metadata["help"]}
        if inner := each.metadata.get("section"):
            part = {**schema(inner), **part, "default": {}}
            if short := each.metadata["short"]:
                # The other keywords of a rule for numbers do not concern objects.
                rule = next(f.metadata["rules"][0] for f in fields(inner) if f.name == short)
                part |= {**rule, "type": ["object", rule["type"]]}
        else:
            rules = [*each.metadata["rules"], *([{"type": "null"}] * each.metadata["nullable"])]
            part |= rules[0] if len(rules) == 1 else {"anyOf": rules}
            part["default"] = [*each.default] if isinstance(each.default, tuple) else each.default
        properties[_key(each.name)] = part
    return {"type": "object", "additionalProperties": False, "properties": properties}


def add_options(parser: argparse.ArgumentParser, kind: type[Options]) -> None:
    """Declare an argument for each option, whose value is JSON or text."""
    group = parser.add_argument_group("settings")
    for each in fields(kind):
        if "rules" in each.metadata:
            default = f" (default: {_word(each.default)})" if each.default else ""
            group.add_argument(
                _flag(each.name),
                dest=each.name,
                type=_value,
                default=argparse.SUPPRESS,
                metavar="VALUE",
                help=each.metadata["help"].replace("%", "%%") + default,
            )


def options_of(arguments: argparse.Namespace, kind: type[T]) -> T:
    """Make options from the arguments of a verb."""
    names = [each.name for each in fields(kind)]
    given = {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}
    return build(kind, {_key(name): value for name, value in given.items()})


def words(options: Options, kind: type[Options] | None = None) -> list[str]:
    """Return the arguments that give a verb these options, without those that are defaults.

    If `kind` is given, only the options of this class are returned.

    Examples
    --------
    >>> from gmmcore.config.options import words
    >>> from gmmcore.config.steps import EStep
    >>> words(EStep(precision="double"))
    ['--precision=double']
    """
    return [
        f"{_flag(each.name)}={_word(getattr(options, each.name))}"
        for each in fields(kind or options)
        if "rules" in each.metadata and getattr(options, each.name) != each.default
    ]


def _fits(value: Any, rule: Mapping[str, Any]) -> bool:
    if "enum" in rule:
        return isinstance(value, str) and value in rule["enum"]
    kind = rule["type"]
    if not isinstance(value, _TYPES[kind][0]) or isinstance(value, bool) != (kind == "boolean"):
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return bool(rule.get("infinite")) and not math.isnan(value)
    return all(_BOUNDS[key][0](value, bound) for key, bound in rule.items() if key in _BOUNDS)


def _expectation(rule: Mapping[str, Any]) -> str:
    if "enum" in rule:
        return f"one of {', '.join(rule['enum'])}"
    items = [f"each entry {_expectation(rule['items'])}"] if "items" in rule else []
    bounds = [f"{_BOUNDS[key][1]} {rule[key]}" for key in rule if _BOUNDS.get(key, ("", ""))[1]]
    return ", ".join([_TYPES[rule["type"]][1], *items, *bounds])


def _found(value: Any) -> str:
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return repr(value)
        return f"{value!r} (YAML reads this as text; write 1.0e-3 for 1e-3)"
    return repr(value)


def _unknown(key: Any, known: list[str]) -> str:
    import difflib

    shown = key if isinstance(key, str) and key.isprintable() else repr(key)
    guess = difflib.get_close_matches(str(key), known, n=1)
    advice = f"did you mean {guess[0]}?" if guess else f"known here: {', '.join(sorted(known))}"
    return f"unknown key {shown}; {advice}"


def _key(name: str) -> str:
    # `from` is a keyword of Python, so the field is called `from_`.
    return name.rstrip("_")


def _flag(name: str) -> str:
    return f"--{_key(name).replace('_', '-')}"


def _word(value: Any) -> str:
    """Write a value as one word; text stays as it is unless it would be read as something else."""
    text = isinstance(value, str) and _value(value) == value
    return str(value) if text else json.dumps(value)


def _value(word: str) -> Any:
    try:
        return json.loads(word)
    except ValueError:
        return word
