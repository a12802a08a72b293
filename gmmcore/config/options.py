"""Options: fields of frozen dataclasses, each with a default, rules and a help text.

The configuration, its documentation and the arguments of the verbs are derived from these fields.
The rules are keywords of JSON Schema; numbers must be finite unless `infinite` is true.
"""

from __future__ import annotations

import argparse
import difflib
import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from gmmcore.errors import GmmcoreError

T = TypeVar("T", bound="Options")
R = TypeVar("R")
Rule = dict[str, Any]

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
"""What names may be that files are called by."""

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


def option(default: Any, help: str, *rules: Rule, nullable: bool = False) -> Any:
    """Declare an option, which fits one of the rules; it may be None if that is its default."""
    metadata = {"help": help, "rules": rules, "nullable": nullable or default is None}
    return field(default=default, metadata=metadata, kw_only=True)


def same(kind: type[Options], name: str) -> Any:
    """Declare an option with the default, the rules and the help text of one of another class."""
    known = next(each for each in fields(kind) if each.name == name)
    return field(default=known.default, metadata=known.metadata, kw_only=True)


def section(kind: type[Options], help: str, short: str | None = None) -> Any:
    """Declare a field that holds other options; a value alone is that of the option `short`."""
    metadata = {"help": help, "section": kind, "short": short}
    return field(default_factory=kind, metadata=metadata, kw_only=True)


def named(kind: type[Options], help: str) -> Any:
    """Declare a field that holds other options by names, which name files too."""
    return field(default_factory=dict, metadata={"help": help, "named": kind}, kw_only=True)


@dataclass(frozen=True)
class Options:
    """Base class of options, whose values are checked on construction."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value, rules = getattr(self, each.name), each.metadata.get("rules")
            if rules is None or (value is None and each.metadata["nullable"]):
                continue
            if not any(_fits(value, rule) for rule in rules):
                wanted = " or ".join(map(_expectation, rules))
                # A single entry was meant as a list.
                such = f", such as {[value]}" * any(_fits([value], rule) for rule in rules)
                raise OptionsError(
                    f"{_key(each.name)} is {_found(value)}: {wanted} was expected{such}"
                )
            if isinstance(value, list):
                object.__setattr__(self, each.name, tuple(value))
            elif rules[0].get("type") == "number":
                object.__setattr__(self, each.name, float(value))


def build(kind: type[T], values: Mapping[str, Any]) -> T:
    """Make options from a mapping; missing keys have their defaults.

    >>> from gmmcore.config.keys import EStep
    >>> build(EStep, {"precision": "double"})
    EStep(precision='double', pruning=2e-08)
    """
    known = {_key(each.name): each for each in fields(kind)}
    given: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            shown = key if isinstance(key, str) and key.isprintable() else repr(key)
            guess = difflib.get_close_matches(str(key), known, n=1)
            names = ", ".join(sorted(known))
            advice = f"did you mean {guess[0]}?" if guess else f"known here: {names}"
            raise OptionsError(f"unknown key {shown}; {advice}")
        if inner := known[key].metadata.get("section"):
            short = known[key].metadata["short"]
            if short is not None and not isinstance(value, Mapping | None):
                value = {short: value}
            # An empty section, such as `variance:`, has its defaults, as one that is left out.
            if not isinstance(value, Mapping | None):
                raise OptionsError(f"{key} is {value!r}: keys with values were expected")
            value = within(key, build, inner, value or {})
        elif inner := known[key].metadata.get("named"):
            if not isinstance(value, Mapping) or not all(
                re.fullmatch(NAME, str(name)) and isinstance(one, Mapping)
                for name, one in value.items()
            ):
                raise OptionsError(
                    f"{key} is {value!r}: names of letters, digits and ._- with keys were expected"
                )
            value = {str(n): within(f"{key}.{n}", build, inner, one) for n, one in value.items()}
        given[known[key].name] = value
    return kind(**given)


def within(key: str, function: Callable[..., R], *arguments: Any) -> R:
    """Call a function, and add the section `key` to the keys in its errors."""
    try:
        return function(*arguments)
    except OptionsError as error:
        start = "unknown key " * str(error).startswith("unknown key ")
        raise OptionsError(f"{start}{key}.{str(error).removeprefix(start)}") from None


def mapping(options: Options, kind: type[Any] | None = None) -> dict[str, Any]:
    """Return JSON values of which `build` makes the same options, or those of the class `kind`."""
    result = {}
    for each in fields(kind or options):
        value = getattr(options, each.name)
        if isinstance(value, Options):
            value = mapping(value)
        elif isinstance(value, Mapping):
            value = {name: mapping(inner) for name, inner in value.items()}
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
        elif inner := each.metadata.get("named"):
            part |= {"type": "object", "additionalProperties": schema(inner), "default": {}}
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
    given = {f.name: getattr(arguments, f.name) for f in fields(kind) if hasattr(arguments, f.name)}
    return build(kind, {_key(name): value for name, value in given.items()})


def _fits(value: Any, rule: Rule) -> bool:
    if "enum" in rule:
        return isinstance(value, str) and value in rule["enum"]
    kind = rule["type"]
    if not isinstance(value, _TYPES[kind][0]) or isinstance(value, bool) != (kind == "boolean"):
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return bool(rule.get("infinite")) and not math.isnan(value)
    return all(_BOUNDS[key][0](value, bound) for key, bound in rule.items() if key in _BOUNDS)


def _expectation(rule: Rule) -> str:
    if "enum" in rule:
        return f"one of {', '.join(rule['enum'])}"
    items = [f"each entry {_expectation(rule['items'])}"] if "items" in rule else []
    bounds = [f"{_BOUNDS[key][1]} {rule[key]}" for key in rule if _BOUNDS.get(key, ("", ""))[1]]
    return ", ".join([_TYPES[rule["type"]][1], *items, *bounds])


def _found(value: Any) -> str:
    try:
        if isinstance(value, str) and math.isfinite(float(value)):
            return f"{value!r} (YAML reads this as text; write 1.0e-3 for 1e-3)"
    except ValueError:
        pass
    return repr(value)


def _key(name: str) -> str:
    return name.rstrip("_")  # `from` is a keyword of Python, so that the field is `from_`.


def _flag(name: str) -> str:
    return f"--{_key(name).replace('_', '-')}"


def _word(value: Any) -> str:
    """Write a value as one word; text stays as it is unless it would be read as something else."""
    is_plain = isinstance(value, str) and _value(value) == value
    return str(value) if is_plain else json.dumps(value)


def _value(word: str) -> Any:
    try:
        return json.loads(word)
    except ValueError:
        return word
