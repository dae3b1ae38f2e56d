"""What benchmarks measured says nothing of the machine's folders."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


def strings(found: Any) -> Iterator[str]:
    if isinstance(found, dict):
        found = [*found, *found.values()]
    if isinstance(found, list):
        for inner in found:
            yield from strings(inner)
    elif isinstance(found, str):
        yield found


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*.json")), ids=lambda file: file.stem)
def test_results_hold_no_absolute_paths(file: Path) -> None:
    assert not [text for text in strings(json.loads(file.read_text())) if text.startswith(("/", "~"))]
