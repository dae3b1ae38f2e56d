# ruff: noqa: E501 (a table reads best with a fault to a line)
"""Faults of the reference of config keys: descriptions, JSON Schema, explanations."""

from tests.mutation.mutant import Mutant

_SCHEMA = ("tests/unit/reference/test_json_schema.py",)
_EXPLAINED = ("tests/unit/reference/test_explain_key.py",)
_DESCRIBED = ("tests/unit/structure/test_descriptions.py",)
_PAGE = ("tests/unit/structure/test_config_page.py",)

REFERENCE = [
    Mutant("reference.json_schema:_Generator.dict_schema", '"propertyNames": names, ', "", _SCHEMA),
    Mutant("reference.json_schema:_Generator.dict_schema", 'if "min_length" not in schema', 'if "min_length" in schema', _SCHEMA),
    Mutant("reference.json_schema:_by_kind", "if default in kinds else", "if default is not None else", _SCHEMA),
    Mutant("reference.json_schema:_by_kind", "if default is None else {}", "if default is not None else {}", _SCHEMA),
    Mutant("reference.json_schema:_by_key", '"required": [name]', '"required": []', _SCHEMA),
    Mutant("families.decoder.spec:DecoderConfig.__get_pydantic_json_schema__", "if key not in handed_down", "if key in cls.model_fields", _SCHEMA),
    Mutant("section.section:_no_truth_value", "isinstance(value, bool)", "False", _SCHEMA),
    Mutant("section.described:description_of", "section.__mro__", "section.__mro__[:1]", _DESCRIBED),
    Mutant("section.described:Description.of", '["unit"] or ""', '["unit"]', _DESCRIBED),
    Mutant("reference.explain_key:_fits_one", "len(names) == len(pattern) and ", "", _EXPLAINED),
    Mutant("reference.explain_key:_key_blocks", "replace(key, sections=())", "replace(key, sections=(), unit=key.name)", _EXPLAINED),
    Mutant("reference.explain_key:_remedy", "nearest(name, siblings)", "nearest(path, known)", _EXPLAINED),
    Mutant("reference.explain_key:completions", "following != WILDCARD and ", "", _EXPLAINED),
    Mutant("reference.parts:_keys", "if inner.must_name_kind else []", "if False else []", _PAGE),
    Mutant("reference.parts:_visit", 'f".{WILDCARD}" * further.depth', '""', _PAGE),
    Mutant("reference.markdown:_anchor", '.replace(" ", "-")', "", _PAGE),
]  # fmt: skip
