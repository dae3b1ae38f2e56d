"""Faults of the search for a layout."""

from tests.mutation.mutant import Mutant

_S = "tests/unit/search/"
_WHOLE, _BOUNDS, _SPACE, _FOOTPRINT, _DIFFERENCE = (
    (f"{_S}test_{name}.py",) for name in ("whole_space", "bounds", "space", "footprint", "difference")
)
_COMMAND = ("tests/unit/report/test_search_command.py",)

SEARCH = [
    Mutant("search.bounds:Bounds.seconds", "/ len(choice.ranks)", "/ choice.degrees.pp", _BOUNDS),
    Mutant("search.bounds:Bounds.module_bytes", "dense.kept / (tp * shards)", "dense.kept / tp", _BOUNDS),
    Mutant("search.footprint:Footprints._ends", "later + held.gradients", "later", _FOOTPRINT),
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
