"""Who reads a whole config: set-up, verify and the commands; all others are told the sections that they need."""

import ast

import pytest

from tests.unit.structure.sources import trees

READERS = ("config", "setup", "verify", "search", "run", "cli", "api", "__init__", "reference")
"""Rooms that may; `reference` describes the class itself, every key of it, and `search` varies keys of all sections."""


def _names_config(tree: ast.Module) -> bool:
    """Whether a tree imports the class of whole configs, or names it where it is imported with its module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("counterpoint"):
            if any(alias.name == "Config" for alias in node.names):
                return True
        elif isinstance(node, ast.Attribute) and node.attr == "Config":
            return True
    return False


def test_only_set_up_verify_and_commands_take_a_whole_config() -> None:
    found = {m for m, tree in trees().items() if m.split(".")[0] not in READERS and _names_config(tree)}
    assert found == set()


@pytest.mark.parametrize(
    "text",
    [
        "from counterpoint.config.schema import Config, ModuleConfig",
        "from counterpoint.config import Config as Whole",
        "from counterpoint import Config",
        "if TYPE_CHECKING:\n    from counterpoint.config.schema import Config",
        "from counterpoint.config import schema\ndef read(config: schema.Config) -> None: ...",
    ],
)
def test_a_whole_config_is_noticed(text: str) -> None:
    assert _names_config(ast.parse(text))
    assert not _names_config(ast.parse(text.replace("Config", "ModuleConfig")))
