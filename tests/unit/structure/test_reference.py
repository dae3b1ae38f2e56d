"""The reference of verify shares with training what docs/verify.md lists, each with a test that pins it; no more."""

import ast
import re

from counterpoint.losses import LOSSES
from counterpoint.modalities import MODALITIES
from counterpoint.optimizers import OPTIMIZERS
from tests.unit.structure.sources import ROOT, imports, trees

ROW = re.compile(r"^\| `([\w.]+)` \| ([\w, ]+) \| (.*`tests/.*) \|$", re.MULTILINE)
TABLE = {place: (names.split(", "), pins) for place, names, pins in ROW.findall((ROOT / "docs/verify.md").read_text())}


def test_the_reference_imports_what_is_listed() -> None:
    shared: dict[str, set[str]] = {}
    for file in _shared():
        assert {place for place in imports(trees()[file]) if not _is_own(place)} <= TABLE.keys(), file
        for node in ast.walk(trees()[file]):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("counterpoint."):
                place = (node.module or "").removeprefix("counterpoint.")
                if not _is_own(place):
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
    assert {"verify.reference", "verify.alone", "verify.rules", "verify.whole", "modalities.images.alone"} <= files
    packing = ("modalities.rows", "modalities.lane", "modalities.images.rows")
    for room in (*packing, "data.feed.reader", "plan.batch", "optimizers.adamw.update", "models.towers"):
        assert room in trees()
        assert room not in TABLE


def _shared() -> set[str]:
    """The files of the reference, those too that kinds name for it."""
    places = (
        *(kind.plain for kinds in (OPTIMIZERS, LOSSES) for kind in kinds.values()),
        *(kind.alone for kind in MODALITIES.values()),
    )
    named = {place.partition(":")[0].removeprefix("counterpoint.") for place in places}
    return _files("verify.reference").union(*map(_files, named))


def _is_own(place: str) -> bool:
    return place.startswith("verify.") or place.endswith(".alone")


def _files(file: str) -> set[str]:
    """A file of verify and all of verify that it needs."""
    found: set[str] = set()
    left = [file]
    while left:
        found.add(left[-1])
        own = {name for name in imports(trees()[left.pop()]) if _is_own(name)}
        left += sorted(own - found)
    return found
