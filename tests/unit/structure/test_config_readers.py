"""Every key of the config has a reader outside config/, or is refused until it has one."""

import ast

from counterpoint.config.keys import known_keys
from counterpoint.config.later import LATER
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


def test_every_key_is_read_or_refused() -> None:
    read = _read()
    unread = {key for key in known_keys() - FORMAT_KEYS if key.rsplit(".", 1)[-1] not in read}
    assert unread <= {later.key for later in LATER}


def test_every_refused_key_exists_once() -> None:
    keys = [later.key for later in LATER]
    assert set(keys) <= known_keys()
    assert len(keys) == len(set(keys))
