# ruff: noqa: E501 (a table reads best with a fault to a line)
"""Faults of what reads a Hugging Face folder for `import`: defaults, changed ones, sizes of pictures, layouts."""

from tests.mutation.mutant import Mutant

_IMPORT = "tests/unit/cli/test_import.py"
_WRONG = (f"{_IMPORT}::test_wrong_input_is_one_sentence",)
_PROCESSORS = (
    f"{_IMPORT}::test_each_key_of_a_processor_changes_the_run_or_is_refused",
    f"{_IMPORT}::test_sizes_of_pictures_are_the_processors",
)
_ALONE = (f"{_IMPORT}::test_a_config_alone_becomes_a_run_with_its_sizes",)
_RANKS = (f"{_IMPORT}::test_more_parameters_than_ranks_hold_are_said",)
_DEFAULTS = ("tests/unit/judge/test_defaults.py",)

IMPORT = [
    Mutant("convert.fields:Fields.section", "self._keys.absent if value is None else self._keys.empty", "self._keys.empty", _DEFAULTS),
    Mutant("convert.fields:Fields.refuse_changed", "release < changed.since", "release > changed.since", _WRONG),
    Mutant("convert.picture_sizes:_convnext", "edge >= _CONVNEXT_WHOLE", "True", _PROCESSORS),
    Mutant("convert.picture_sizes:_plain", "crop in (None, square)", "True", (f"{_IMPORT}::test_sizes_without_a_rule_are_refused_by_name",)),
    Mutant("convert.processor:_filter", "else int(found.number(\"resample\"))", "else 3", _PROCESSORS),
    Mutant("importing.command:_edge", '"after": after, "into": into', '"after": into, "into": after', _ALONE),
    Mutant("importing.modules:_model", "is_idle = name in idle and not field.is_required()", "is_idle = name in idle or field.is_required()", _ALONE),
    Mutant("importing.layout:layouts_of", "STATE_BYTES * total // max(1, int(_SHARE * memory))", "STATE_BYTES * total // max(1, int(memory))", _RANKS),
]  # fmt: skip
