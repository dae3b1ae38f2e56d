"""Every key of the config has a reader outside config/."""

import ast

from counterpoint.config.keys import known_keys
from tests.unit.structure.sources import imports, trees

FORMAT_KEYS = {"schema"}
"""Read by the config itself: `Literal[1]` is its reader."""


def _read() -> set[str]:
    """Names of the attributes that files which know the config read, and that its own properties and widths read."""
    readers = [
        tree
        for module, tree in trees().items()
        if not module.startswith("config") and any(name.startswith("config") for name in imports(tree))
    ]
    own = [node for name in ("config.models", "config.graph") for node in ast.walk(trees()[name])]
    properties = [node for node in own if isinstance(node, ast.FunctionDef)]
    nodes = (node for reader in (*readers, *properties) for node in ast.walk(reader))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}


def test_every_key_is_read() -> None:
    read = _read()
    assert {key for key in known_keys() - FORMAT_KEYS if key.rsplit(".", 1)[-1] not in read} == set()
