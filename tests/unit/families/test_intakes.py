"""What enters a module is what its model's section says."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from counterpoint.config.graph import modalities_of
from counterpoint.config.load import load_config
from counterpoint.families import ModelConfig, intake_of, modality_of
from counterpoint.families.vit.spec import VitConfig
from counterpoint.modalities.images.spec import ImageIntake

PARITY = Path(__file__).parents[2] / "parity"
CONFORMER = {
    "kind": "conformer", "layers": 2, "hidden": 8, "heads": 2, "ffn": 12, "mels": 16, "stem_channels": 3,
    "projector": {"kind": "linear"},
}  # fmt: skip
CONVNEXT = {
    "kind": "convnext", "depths": [1, 1], "widths": [8, 8], "image": {"max_patches": 16},
    "projector": {"kind": "linear"},
}  # fmt: skip
GIVEN = {"kind": "features", "width": 7, "projector": {"kind": "linear"}}
FACTS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "vit": ("tiny", "vision", {}, {"patch": 6, "merge": 4, "frames": 2, "prefix": 5}),
    "windows": ("tiny", "vision", {}, {"window": 8}),
    "whisper": ("speech", "audio", {}, {"mels": 9, "positions": 77, "stack": 3}),
    "conformer": ("speech", "audio", CONFORMER, {"mels": 24, "positions": 77}),
    "convnext": ("tiny", "vision", CONVNEXT, {"patch": 6}),
    "features": ("speech", "audio", GIVEN, {"width": 9}),
}
"""A file, a module of it, a model in place of its own, and other values of its keys."""


@pytest.mark.parametrize("name", FACTS)
def test_a_key_becomes_what_enters_by_its_name(name: str) -> None:
    file, module, model, values = FACTS[name]
    base = load_config(PARITY / f"{file}.yaml").resolved()["modules"][module]["model"]
    section: ModelConfig = TypeAdapter(ModelConfig).validate_python((model or base) | values)
    found = intake_of(module, section, "<mark>")
    assert found is not None
    assert (found.module, found.mark) == (module, "<mark>")
    assert {key: getattr(found, key) for key in values} == values
    taken = modality_of(section)
    assert taken is not None
    assert taken.name == found.kind


def test_the_section_of_a_model_is_handed_on() -> None:
    config = load_config(PARITY / "tiny.yaml")
    section = config.modules["vision"].model
    found = intake_of("vision", section, "")
    assert isinstance(section, VitConfig)
    assert isinstance(found, ImageIntake)
    assert found.image is section.image


def test_nothing_enters_what_reads_documents_or_rows_of_others() -> None:
    config = load_config(PARITY / "towers.yaml")
    assert "adapter" not in modalities_of(config)
    assert [intake_of(name, config.modules[name].model, "") for name in ("adapter", "language")] == [None, None]
