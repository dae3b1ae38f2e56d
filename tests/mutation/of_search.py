"""Faults of the search for a layout."""

from tests.mutation.mutant import Mutant

_S = "tests/unit/search/"
_WHOLE, _BOUNDS, _SPACE, _FOOTPRINT, _DIFFERENCE = (
    (f"{_S}test_{name}.py",) for name in ("whole_space", "bounds", "space", "footprint", "difference")
)
_COMMAND = ("tests/unit/report/test_search_command.py",)
_SHORTLIST = (f"{_S}test_shortlist.py",)

SEARCH = [
    Mutant("search.bounds:Bounds.seconds", "/ len(choice.ranks)", "/ choice.degrees.pp", _BOUNDS),
    Mutant("search.bounds:Bounds.module_bytes", "dense.kept / (tp * shards)", "dense.kept / tp", _BOUNDS),
    Mutant(
        "search.bounds:Bounds._of_parts", "made.inputs if any(trained[: number + 1]) else ()", "made.inputs", _BOUNDS
    ),
    Mutant("search.bounds:Bounds._launches", "filled * kernels", "candidate.schedule.microbatches * kernels", _BOUNDS),
    Mutant("search.footprint:Footprints._ends", "later + held.gradients", "later", _FOOTPRINT),
    Mutant("search.footprint:Footprints.memory_bytes", "choice.recompute, candidate", "candidate", _FOOTPRINT),
    Mutant(
        "search.footprint:Footprints.memory_bytes",
        "choice.recompute, candidate.schedule, after",
        "choice.recompute, after",
        _FOOTPRINT,
    ),
    Mutant("search.shortlist:Shortlist._combine", "key >= best[-1][0]", "1.01 * key >= best[-1][0]", _SHORTLIST),
    Mutant("search.walk:Walk._try", "> self._limit() * _SLACK", "> 0.5 * self._limit()", _WHOLE),
    Mutant("search.space:Space._holds", "value) == value", "value) is not None", _SPACE),
    Mutant("search.placements:_compositions", "yield (size, *rest)", "yield (*rest, size)", _SPACE),
    Mutant("search.rewrite:changed_keys", '"world.size": found.world_size', '"world.size": base.world.size', _COMMAND),
    Mutant(
        "search.difference:_kinds",
        "first.idle, second.idle",
        "first.idle, first.idle",
        ("tests/unit/search/test_difference.py",),
    ),
    Mutant(
        "config.edit_text:_insertion",
        'indent = " " * node.value[0][0].start_mark.column',
        'indent = ""',
        ("tests/unit/config/test_edit_text.py",),
    ),
]
