"""Feature settings from the complete configuration that the workflow hands to its jobs."""

from __future__ import annotations

import json

from gmmcore.errors import GmmcoreError
from gmmcore.features.settings import FeatureSettings
from gmmcore.files import PathLike, read_bytes

__all__ = ["read_settings"]

_LARGEST = 16 << 20


def read_settings(path: PathLike) -> FeatureSettings:
    """The `features` section, and the seed, of a configuration in JSON.

    Parameters
    ----------
    path
        A file, or the JSON object itself.

    Raises
    ------
    GmmcoreError
        If the file is missing or not such a configuration.
    """
    try:
        inline = str(path).lstrip().startswith("{")
        config = json.loads(str(path) if inline else read_bytes(path, _LARGEST))
        section, seed = config["features"], config.get("seed", 0)
        if not isinstance(section, dict) or not isinstance(seed, int):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise GmmcoreError(
            f"{path}: not a configuration; expected a JSON object with a section features"
        ) from None
    return FeatureSettings.from_mapping(section, seed)
