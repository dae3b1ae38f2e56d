"""What the first step of a run compiled, over all ranks."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a rank compiled: the names of classes by module, the number of functions, and the time in seconds."""

    kinds: Mapping[str, Set[str]]
    functions: int
    seconds: float


def values_of(ranks: Sequence[Compiled]) -> dict[str, Any]:
    """What all ranks compiled, for programs: classes by module, and the most functions and seconds of a rank."""
    kinds: dict[str, Set[str]] = {}
    for rank in ranks:
        for module, names in rank.kinds.items():
            kinds[module] = kinds.get(module, frozenset()) | names
    return {
        "compiled": {module: sorted(names) for module, names in kinds.items()},
        "compiled_functions": max(rank.functions for rank in ranks),
        "compile_seconds": max(rank.seconds for rank in ranks),
    }


def words_of(values: Mapping[str, Any], folder: str) -> str:
    """The same as a line; `folder` is where torch keeps it for later runs, empty if that is unknown."""
    kinds = "; ".join(f"{module}: {', '.join(names)}" for module, names in values["compiled"].items())
    kept = f", kept in {folder}" if folder else ""
    return f"compiled {kinds}: {values['compiled_functions']} functions in {values['compile_seconds']:.1f} s{kept}"
