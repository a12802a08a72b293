"""Options: a field of a frozen dataclass that knows its default, its bounds and its help.

Configurations, their documentation and the arguments of the verbs come from these fields. The words
of the rules are those of JSON Schema.
"""

from __future__ import annotations

import argparse
import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
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
"""A folder that the workflow writes to."""

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
    """An option that holds what it may not hold: the key, what was found, what was expected."""


def option(default: Any, help: str, *rules: Mapping[str, Any], **rule: Any) -> Any:
    """A field of an `Options` class.

    Parameters
    ----------
    default
        Where it is None, or `nullable` is among the rules, the option may be None.
    help : str
        One line for documentation and command line.
    *rules, **rule
        What it may hold, in the words of JSON Schema; with several, one of them. Numbers are
        finite unless `infinite` is true.
    """
    nullable = rule.pop("nullable", default is None)
    rules = rules or (rule,)
    return field(
        default=default, metadata={"help": help, "rules": rules, "nullable": nullable}, kw_only=True
    )


def same(kind: type[Options], name: str) -> Any:
    """The option of another class, with its default, its rules and its help."""
    known = next(each for each in fields(kind) if each.name == name)
    return field(default=known.default, metadata=known.metadata, kw_only=True)


def section(kind: type[Options], help: str) -> Any:
    """A field that holds other options."""
    return field(default_factory=kind, metadata={"help": help, "section": kind}, kw_only=True)


@dataclass(frozen=True)
class Options:
    """A set of options; whatever is made of it fits its rules."""

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
    """The options that a mapping holds; defaults stand in for keys that it lacks.

    Raises
    ------
    OptionsError
        If a key is unknown or holds what it may not hold.
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
        # `variance:` with nothing behind it means its defaults, as leaving it out does.
        if not isinstance(value, Mapping | None):
            raise OptionsError(f"{key} is {value!r}: keys with values were expected")
        given[known[key].name] = within(key, build, inner, value or {})
    missing = [
        _key(each.name)
        for each in fields(kind)
        if each.name not in given and each.default is each.default_factory is MISSING
    ]
    if missing:
        raise OptionsError(f"{missing[0]} is required")
    return kind(**given)


def within(key: str, function: Callable[..., R], *arguments: Any) -> R:
    """Call a function; its errors name the section `key`."""
    try:
        return function(*arguments)
    except OptionsError as error:
        text = str(error)
        at = len("unknown key ") * text.startswith("unknown key ")
        raise OptionsError(f"{text[:at]}{key}.{text[at:]}") from None


def mapping(options: Options, kind: type[Options] | None = None) -> dict[str, Any]:
    """What `build` makes the same options of; JSON values only.

    With `kind`, only the options that this class has.
    """
    result = {}
    for each in fields(kind or options):
        value = getattr(options, each.name)
        if isinstance(value, Options):
            value = mapping(value)
        result[_key(each.name)] = [*value] if isinstance(value, tuple) else value
    return result


def schema(kind: type[Options]) -> dict[str, Any]:
    """The JSON Schema of what `build` takes."""
    properties: dict[str, Any] = {}
    for each in fields(kind):
        part: dict[str, Any] = {"description": each.metadata["help"]}
        if inner := each.metadata.get("section"):
            part = {**schema(inner), **part, "default": {}}
        else:
            rules = [*each.metadata["rules"], *([{"type": "null"}] * each.metadata["nullable"])]
            part |= rules[0] if len(rules) == 1 else {"anyOf": rules}
            part["default"] = [*each.default] if isinstance(each.default, tuple) else each.default
        properties[_key(each.name)] = part
    return {"type": "object", "additionalProperties": False, "properties": properties}


def add_options(parser: argparse.ArgumentParser, kind: type[Options]) -> None:
    """Declare an argument for each option; its value is JSON, or a text."""
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
    """The options that were given to a verb."""
    names = [each.name for each in fields(kind)]
    given = {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}
    return build(kind, {_key(name): value for name, value in given.items()})


def words(options: Options, kind: type[Options] | None = None) -> list[str]:
    """The arguments from which a verb reads these options: those that differ from the defaults.

    With `kind`, only the options that this class has.
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
    # `from` is no name in Python.
    return name.rstrip("_")


def _flag(name: str) -> str:
    return f"--{_key(name).replace('_', '-')}"


def _word(value: Any) -> str:
    """A value as one word; a text stays as it is unless it would be read as something else."""
    text = isinstance(value, str) and _value(value) == value
    return str(value) if text else json.dumps(value)


def _value(word: str) -> Any:
    try:
        return json.loads(word)
    except ValueError:
        return word
