"""Every key of the config has a reader outside config/."""

import ast

from counterpoint.config.keys import known_keys
from counterpoint.modalities import MODALITIES
from tests.unit.structure.sources import imports, trees

FORMAT_KEYS = {"schema"}
"""Read by the config itself: `Literal[1]` is its reader."""


def _read() -> set[str]:
    """Names of the attributes that files which know sections read, that functions beside sections read, and keys by
    which modalities read a recipe."""
    sections = {module for module, tree in trees().items() if any(map(_is_section, ast.walk(tree)))}
    readers = [
        tree
        for module, tree in trees().items()
        if not module.startswith("config") and any(n.startswith("config") or n in sections for n in imports(tree))
    ]
    beside = [
        node
        for module in ("config.graph", *sections)
        for node in ast.walk(trees()[module])
        if isinstance(node, ast.FunctionDef)
    ]
    nodes = (node for reader in (*readers, *beside) for node in ast.walk(reader))
    drawings = [modality.drawing for modality in MODALITIES.values()]
    drawn = {key for one in drawings for key in (one.number, one.without, *one.sizes)}
    return drawn | {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}


def _is_section(node: ast.AST) -> bool:
    bases = node.bases if isinstance(node, ast.ClassDef) else []
    return any(isinstance(base, ast.Name) and base.id.endswith(("Section", "Config")) for base in bases)


def test_every_key_is_read() -> None:
    read = _read()
    assert {key for key in known_keys() - FORMAT_KEYS if key.rsplit(".", 1)[-1] not in read} == set()
