"""What lives as long as the process is listed in ARCHITECTURE.md, with the reason; nothing else does."""

import ast
import re
from collections.abc import Iterator, Mapping

import pytest

from tests.unit.structure.sources import ROOT, trees

_FROM_HERE = (ROOT / "ARCHITECTURE.md").read_text().partition("## What lives as long as the process\n")[2]
ROW = re.compile(r"^\| ((?:`\w+`(?:, )?)+) \| `([\w/]+)\.py` \| (.+) \|$", re.MULTILINE)
LISTED = {
    f"{file.replace('/', '.').removesuffix('.__init__')}:{name}"
    for names, file, _why in ROW.findall(_FROM_HERE.partition("\n## ")[0])
    for name in names.strip("`").split("`, `")
}

KEEPING = ("cache", "lru_cache", "custom_op")
"""Decorators that keep something of their function for the process: answers, or the operation itself."""

GROWING = ("Registry",)
"""Classes whose values grow, by whoever registers a kind."""

CHANGING = (
    "add", "append", "appendleft", "clear", "discard", "extend", "insert", "move_to_end", "pop", "popitem", "popleft",
    "put", "remove", "reverse", "set", "setdefault", "sort", "update",
)  # fmt: skip
"""Methods that change what they are called on."""


def test_what_lives_as_long_as_the_process_is_listed() -> None:
    assert set(_state(trees())) == LISTED


PLANTED = {
    "a cache": "from functools import cache\n@cache\ndef name(): ...",
    "a cache of some size": "import functools\n@functools.lru_cache(maxsize=9)\ndef name(): ...",
    "a cache around a method": "class A:\n    @cache\n    def name(self): ...",
    "a cached function under a name": "name = lru_cache(9)(print)",
    "a registry": "name = Registry('shape')",
    "a typed registry": "name: Registry[int] = Registry('shape')",
    "a registry that says its type": "name = Registry[int]('shape')",
    "an operation": "@torch.library.custom_op('a::b', mutates_args=())\ndef name(): ...",
    "a global": "def change():\n    global name\n    name = 1",
    "an entry": "name = {}\ndef change(key):\n    name[key] = 1",
    "an entry that goes": "name = {}\ndef change(key):\n    del name[key]",
    "an entry that grows": "name = {}\ndef change(key):\n    name[key] += 1",
    "a list that grows": "name = []\ndef change():\n    name.append(1)",
    "a list that grows at import": "name = []\nname += [1]",
    "a counter": "name = count()\ndef change():\n    return next(name)",
    "a part of it": "name = Thing()\ndef change():\n    name.part = 1",
    "a part of it by name": "name = Thing()\ndef change():\n    setattr(name, 'part', 1)",
    "a container of a class": "class name:\n    known = {}\n    def change(self):\n        name.known[1] = 2",
    "a change inside of another function": "name = []\ndef change():\n    def inner():\n        name.append(1)",
}  # fmt: skip


@pytest.mark.parametrize("kind", PLANTED)
def test_another_one_would_be_seen(kind: str) -> None:
    assert list(_state({"plan.new": ast.parse(PLANTED[kind])})) == ["plan.new:name"]


@pytest.mark.parametrize("way", [
    "from counterpoint.plan.new import name\ndef change():\n    name.append(1)",
    "from counterpoint.plan.new import name as other\ndef change():\n    other.append(1)",
    "from counterpoint.plan import new\ndef change():\n    new.name.append(1)",
    "from counterpoint.plan import new\ndef change():\n    new.name = [1]",
])  # fmt: skip
def test_a_change_from_another_file_would_be_seen(way: str) -> None:
    assert list(_state({"plan.new": ast.parse("name = []"), "plan.other": ast.parse(way)})) == ["plan.new:name"]


@pytest.mark.parametrize("source", [
    "name = {}\ndef read(key):\n    return name[key]",
    "name = []\ndef change(name):\n    name.append(1)",
    "name = []\ndef change():\n    name = []\n    name.append(1)",
    "def change():\n    return lru_cache(9)(print)",
    "class A:\n    @cached_property\n    def name(self): ...",
])  # fmt: skip
def test_what_does_not_is_none(source: str) -> None:
    assert list(_state({"plan.new": ast.parse(source)})) == []


def _state(files: Mapping[str, ast.Module]) -> Iterator[str]:
    """`module:name` of all that lives as long as the process, each once."""
    homes = {f"{module}:{name}" for module, tree in files.items() for name in _top(tree)}
    found: dict[str, None] = {}
    for module, tree in files.items():
        names = {name: f"{module}:{name}" for name in _top(tree)} | dict(_imported(tree))
        found |= dict.fromkeys(f"{module}:{name}" for name in _kept(tree))
        for node, local in _in_scope(tree):
            for name in _changed(node):
                head, _, rest = name.partition(".")
                home = names.get(head, "")
                if head in local or not home:
                    continue
                if home in homes:
                    found[home] = None
                elif (inner := f"{home.replace(':', '.')}:{rest.partition('.')[0]}") in homes:
                    found[inner] = None
    yield from found


def _top(tree: ast.Module) -> Iterator[str]:
    """Names that a file itself gives to something."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Names that a file has from others of the package, with their home; of a file its folder and name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("counterpoint."):
            place = (node.module or "").removeprefix("counterpoint.")
            yield from ((alias.asname or alias.name, f"{place}:{alias.name}") for alias in node.names)


def _kept(tree: ast.Module) -> Iterator[str]:
    """What a decorator, or a cache around a function, keeps; what is declared global; and registries."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any(_last(one) in KEEPING for one in node.decorator_list):
            yield node.name
        elif isinstance(node, ast.Global):
            yield from node.names
    for node in tree.body:
        match node:
            case ast.Assign(value=ast.Call() as call) | ast.AnnAssign(value=ast.Call() as call):
                yield from _top(ast.Module([node], [])) if _last(call) in (*KEEPING, *GROWING) else ()


def _last(node: ast.expr) -> str:
    """The last part of the name of what is called or meant."""
    while isinstance(node, ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _in_scope(node: ast.AST, local: frozenset[str] = frozenset()) -> Iterator[tuple[ast.AST, frozenset[str]]]:
    """All nodes, each with the names that the functions around it have for themselves."""
    for child in ast.iter_child_nodes(node):
        inner = local
        if isinstance(child, ast.FunctionDef | ast.Lambda):
            given = child.args
            inner |= {one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
            inner |= {one.id for one in ast.walk(child) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
        yield child, inner
        yield from _in_scope(child, inner)


def _changed(node: ast.AST) -> Iterator[str]:
    """Dotted names of what a statement or a call changes."""
    match node:
        case ast.Subscript(value=value, ctx=ast.Store() | ast.Del()) | ast.Attribute(value=value, ctx=ast.Store()):
            yield _dotted(value)
            if isinstance(node, ast.Attribute):
                yield _dotted(node)
        case ast.AugAssign(target=ast.Name(id=name)):
            yield name
        case ast.Call(func=ast.Attribute(value=value, attr=method)) if method in CHANGING:
            yield _dotted(value)
        case ast.Call(func=ast.Name(id="next" | "setattr" | "delattr"), args=[value, *_]):
            yield _dotted(value)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""
