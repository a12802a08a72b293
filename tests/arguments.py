"""Settings as the arguments of a verb."""

from __future__ import annotations

import json

from gmmcore.config.options import Options, mapping


def words(options: Options) -> list[str]:
    """The arguments for the settings that are no defaults."""
    defaults = mapping(type(options)())
    return [
        f"--{key.replace('_', '-')}={json.dumps(value)}"
        for key, value in mapping(options).items()
        if value != defaults[key]
    ]
