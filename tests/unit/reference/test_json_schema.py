"""The JSON Schema takes what the loader takes, and refuses what it refuses, but for what only several sections say."""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from counterpoint.config.schema import Config
from counterpoint.reference.json_schema import DIALECT, json_schema
from tests.unit.reference.configs import ROOT, SHIPPED, UNFIT, Mutant, mutants, read

PARITY = sorted(ROOT.glob("tests/parity/*.yaml"))


@cache
def validator() -> Draft202012Validator:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def loads(data: dict[str, Any]) -> bool:
    """Whether single sections and keys are what they may be."""
    try:
        Config.model_validate(data)
    except ValidationError:
        return False
    return True


def disagreements(chosen: Iterator[Mutant]) -> tuple[Counter[str], list[str]]:
    """How many mutants of each change both refuse, and those that only one of them refuses."""
    refused: Counter[str] = Counter()
    different = []
    for mutant in chosen:
        loaded, valid = loads(mutant.data), validator().is_valid(mutant.data)
        refused[mutant.change] += not loaded and not valid
        different += [f"{mutant}: loader {loaded}, schema {valid}"] if loaded != valid else []
    return refused, different


@pytest.mark.parametrize("file", [*SHIPPED, *PARITY], ids=lambda file: f"{file.parent.name}/{file.name}")
def test_configs_that_ship_are_valid(file: Path) -> None:
    assert [error.message for error in validator().iter_errors(read(file))] == []


def test_what_the_loader_refuses_the_schema_refuses() -> None:
    refused, different = disagreements(mutants(every=37))
    assert different == []
    assert refused.total() >= 500
    assert refused.keys() == {"an unknown key", "left out", *dict(UNFIT)}
    assert min(refused.values()) >= 10, refused


@pytest.mark.more
@pytest.mark.parametrize("first", range(1, 8))
def test_they_agree_on_further_mutants(first: int) -> None:
    assert disagreements(mutants(every=37, first=first))[1] == []


UNKNOWN = [
    ({"model": {"kind": "vut"}}, "modules.vision.model.kind"),
    ({"model": {"projector": {"kind": "liner"}}}, "modules.vision.model.projector.kind"),
    ({"optimizer": {"kind": "sgd", "lr": 1.0}}, "modules.vision.optimizer.kind"),
]


@pytest.mark.parametrize(("changed", "place"), UNKNOWN)
def test_an_unknown_kind_is_shown_at_its_key(changed: dict[str, Any], place: str) -> None:
    data = read(ROOT / "examples" / "emoji.yaml")
    module = data["modules"]["vision"]
    merged = {key: {**module[key], **value} for key, value in changed.items()}
    data = {**data, "modules": {**data["modules"], "vision": {**module, **merged}}}
    assert not loads(data)
    assert {error.json_path for error in validator().iter_errors(data)} == {f"$.{place}"}


def test_editors_are_told_what_keys_mean() -> None:
    schema = json_schema()
    assert schema["$schema"] == DIALECT
    layout = schema["$defs"]["LayoutConfig"]["properties"]
    assert layout["tp"]["description"].endswith("Unit: ranks.")
    assert layout["tp"]["default"] == 1
    sections = [schema, *schema["$defs"].values()]
    assert all(key["description"] for section in sections for key in section["properties"].values())
    assert all(section["description"] for section in sections)


SHORT = [
    ("init_from", "models/clip", True),
    ("init_from", {"path": "models/clip", "fresh": ["projector.*"]}, True),
    ("init_from", "", False),
    ("init_from", {"fresh": []}, False),
    ("train", "some", False),
    ("train", ["projector.*"], True),
    ("recompute", [], False),
]


@pytest.mark.parametrize(("key", "value", "is_valid"), SHORT)
def test_short_forms_are_valid(key: str, value: Any, is_valid: bool) -> None:
    data = read(ROOT / "examples" / "emoji.yaml")
    data = {**data, "modules": {**data["modules"], "vision": {**data["modules"]["vision"], key: value}}}
    assert loads(data) == is_valid
    assert validator().is_valid(data) == is_valid


@pytest.mark.parametrize("name", ["Vision", "my-tower", "2nd", ""])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    data = read(ROOT / "examples" / "emoji.yaml")
    data = {**data, "modules": {**data["modules"], name: data["modules"]["vision"]}}
    assert not loads(data)
    assert not validator().is_valid(data)


LAYERS = [
    ({"kind": "attention", "window": 4}, True),
    ({"kind": "attention", "heads": 0}, False),
    ({"kind": "attention", "kv_head": 1}, False),
    ({"kind": "moe", "ffn": 8}, False),
    ({"kind": "moe", "ffn": 8, "experts": 4, "top_k": 2}, True),
    ({"window": 4}, False),
]


@pytest.mark.parametrize(("layer", "is_valid"), LAYERS)
def test_further_layers_have_the_keys_of_their_decoder(layer: dict[str, Any], is_valid: bool) -> None:
    data = read(ROOT / "examples" / "emoji.yaml")
    language = data["modules"]["language"]
    model = {**language["model"], "pattern": "WW-", "layers": {"W": layer}}
    data = {**data, "modules": {**data["modules"], "language": {**language, "model": model}}}
    assert loads(data) == is_valid
    assert validator().is_valid(data) == is_valid
