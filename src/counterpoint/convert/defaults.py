"""transformers' defaults for what a config.json or a processor leaves out, by kind, from `defaults.json`.

`python -m tests.unit.judge.defaults_table` writes it from the resolved configs of the transformers that it names.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, final

DEFAULTS_FILE = Path(__file__).with_name("defaults.json")


@final
class Defaults(NamedTuple):
    """The content of the file: of the `transformers` of this version."""

    transformers: str
    models: Mapping[str, Mapping[str, Any]]
    derived: Mapping[str, Mapping[str, list[str]]]
    sections: Mapping[str, Mapping[str, Mapping[str, Any]]]
    processors: Mapping[str, Mapping[str, Any]]


def read_defaults() -> Defaults:
    """The table, read anew."""
    return Defaults(**json.loads(DEFAULTS_FILE.read_bytes()))
