"""The reference of verify shares with training what docs/verify.md lists, each with a test that pins it; no more."""

import ast
import re

from counterpoint.optimizers import OPTIMIZERS
from tests.unit.structure.sources import ROOT, imports, trees

ROW = re.compile(r"^\| `([\w.]+)` \| ([\w, ]+) \| (.*`tests/.*) \|$", re.MULTILINE)
TABLE = {place: (names.split(", "), pins) for place, names, pins in ROW.findall((ROOT / "docs/verify.md").read_text())}


def test_the_reference_imports_what_is_listed() -> None:
    shared: dict[str, set[str]] = {}
    for file in _shared():
        assert {place for place in imports(trees()[file]) if not place.startswith("verify.")} <= TABLE.keys(), file
        for node in ast.walk(trees()[file]):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("counterpoint."):
                place = (node.module or "").removeprefix("counterpoint.")
                if not place.startswith("verify."):
                    shared.setdefault(place, set()).update(alias.name for alias in node.names)
    assert {place: sorted(names) for place, names in shared.items()} == {p: sorted(n) for p, (n, _) in TABLE.items()}


def test_what_is_shared_is_pinned() -> None:
    for place, (_names, pins) in TABLE.items():
        found = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", pins)
        assert found, place
        for file, test in found:
            assert f"def {test}(" in (ROOT / file).read_text(), f"{place}: {file} has no {test}"


def test_another_import_would_be_seen() -> None:
    """Whatever packs, plans steps or decides on decay for training is in reach of an import, and in none."""
    files = _shared()
    assert {"verify.reference", "verify.alone", "verify.rules", "verify.whole"} <= files
    for room in ("data.item_rows", "data.feed", "plan.batch", "optimizers.adamw.update", "models.towers"):
        assert room in trees()
        assert room not in TABLE


def _shared() -> set[str]:
    """The files of the reference, those too that kinds name for it."""
    named = {kind.plain.partition(":")[0].removeprefix("counterpoint.") for kind in OPTIMIZERS.values()}
    return _files("verify.reference").union(*map(_files, named))


def _files(file: str) -> set[str]:
    """A file of verify and all of verify that it needs."""
    found: set[str] = set()
    left = [file]
    while left:
        found.add(left[-1])
        own = {name for name in imports(trees()[left.pop()]) if name.startswith("verify.")}
        left += sorted(own - found)
    return found
