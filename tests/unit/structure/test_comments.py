"""Comments are neither banners nor promises; every file and every public definition says what it is."""

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.unit.structure.sources import PACKAGE, trees

BANNER = re.compile(r"#.*[-=#*_~]{4,}")
LEFT_OVER = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")
ELSEWHERE = re.compile(r"\bdesign D\d")
"""A document that readers of the repository do not have."""


def _comments(file: Path) -> Iterator[str]:
    with file.open("rb") as lines:
        yield from (token.string for token in tokenize.tokenize(lines.readline) if token.type == tokenize.COMMENT)


def _undocumented(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module) and node.body and ast.get_docstring(node) is None:
            yield "the file"
    for definition in tree.body:
        if isinstance(definition, ast.FunctionDef | ast.ClassDef):
            is_public = not definition.name.startswith("_")
            if is_public and ast.get_docstring(definition) is None:
                yield definition.name


def test_comments_are_neither_banners_nor_promises() -> None:
    comments = [(file.name, comment) for file in sorted(PACKAGE.rglob("*.py")) for comment in _comments(file)]
    assert len(comments) > 10
    assert [found for found in comments if BANNER.search(found[1]) or LEFT_OVER.search(found[1])] == []


def test_nothing_cites_what_is_not_here() -> None:
    assert ELSEWHERE.search("as it must (design D7)")
    assert [file.name for file in sorted(PACKAGE.rglob("*.py")) if ELSEWHERE.search(file.read_text())] == []


def test_files_and_public_definitions_say_what_they_are() -> None:
    assert {module: found for module, tree in trees().items() if (found := list(_undocumented(tree)))} == {}


def test_banners_and_promises_are_seen() -> None:
    assert BANNER.search("# ---- step 3")
    assert LEFT_OVER.search("# TODO later")
    assert list(_undocumented(ast.parse("def named() -> None: ..."))) == ["the file", "named"]
