"""The package's sources as syntax trees, read once."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "src" / "counterpoint"


@cache
def trees() -> dict[str, ast.Module]:
    """Module name without the package (`plan.layout`) to its tree."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = ast.parse(file.read_text())
    return found


def imports(tree: ast.Module) -> set[str]:
    """Everything of the package that a tree imports, without the package's name."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("counterpoint."):
            names.add((node.module or "").removeprefix("counterpoint."))
        elif isinstance(node, ast.Import):
            names |= {a.name.removeprefix("counterpoint.") for a in node.names if a.name.startswith("counterpoint.")}
    return names


def outside(tree: ast.Module) -> set[str]:
    """Top-level names of what a tree imports from outside the package."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
    return names - {"counterpoint"}
