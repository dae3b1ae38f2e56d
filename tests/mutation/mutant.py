"""A planted fault: where it stands, what it replaces, and which tests should notice it first."""

import ast
from dataclasses import dataclass
from functools import cache


class StaleError(ValueError):
    """The sources have no such function or snippet any more, or the snippet more than once."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """In the function or class `qualname` of the package's `module` (all of the file if that is empty) `new` stands in
    the place of `old`.

    `tests` are files or folders to run first, `ranks` those that run it on ranks, for what no unit test notices.
    `harmless` says why nothing can notice it.
    """

    where: str
    old: str
    new: str
    tests: tuple[str, ...]
    ranks: tuple[str, ...] = ()
    harmless: str = ""

    @property
    def module(self) -> str:
        """The module inside of the package: `data.order.order`."""
        return self.where.partition(":")[0]

    @property
    def qualname(self) -> str:
        """The function or class inside of the module: `Order.draws`."""
        return self.where.partition(":")[2]

    @property
    def name(self) -> str:
        """What it is called in the table and on the command line."""
        return f"{self.where} {self.old} -> {self.new}"

    def apply(self, source: str) -> str:
        """The source with the fault; raises StaleError."""
        lines = source.splitlines(keepends=True)
        first, last = _extent(_parsed(source), self.qualname, self.where) if self.qualname else (0, len(lines))
        part = "".join(lines[first:last])
        if part.count(self.old) != 1:
            raise StaleError(f"{self.where} holds {self.old!r} {part.count(self.old)} times, expected once")
        mutated = "".join(lines[:first]) + part.replace(self.old, self.new) + "".join(lines[last:])
        ast.parse(mutated)
        return mutated


@cache
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


def _extent(tree: ast.Module, qualname: str, where: str) -> tuple[int, int]:
    """The lines of a definition, from the first to the one after its last."""
    node: ast.AST = tree
    for name in qualname.split("."):
        found = [
            child
            for child in ast.iter_child_nodes(node)
            if isinstance(child, ast.FunctionDef | ast.ClassDef) and child.name == name
        ]
        if len(found) != 1:
            raise StaleError(f"{where} is defined {len(found)} times, expected once")
        (node,) = found
    assert isinstance(node, ast.FunctionDef | ast.ClassDef), "a definition"
    return node.lineno - 1, node.end_lineno or node.lineno
