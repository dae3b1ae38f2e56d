"""A run's config with the keys of a transformers' folder makes the models with which that folder is judged."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from counterpoint.convert.composite import Stored, composite_of
from counterpoint.kinds.family import Model
from counterpoint.setup.plan import models_of
from tests.unit.judge.models import CONFIGS
from tests.unit.judge.whole_configs import FOLDERS, config_of

CASES = {**FOLDERS, **CONFIGS}


@pytest.mark.parametrize("name", CASES)
def test_a_run_with_the_keys_of_a_folder_has_its_sizes(name: str, tmp_path: Path) -> None:
    whole = composite_of(CASES[name])
    models = models_of(config_of(whole, tmp_path / "folder", {}), vocab=None)
    for module, stored in whole.modules.items():
        assert said(models[module], stored) == said(stored.model, stored), module


def said(model: Model, stored: Stored) -> dict[str, Any]:
    """What a folder says of a model: not how pictures are read, what enters it, or what neither has."""
    unsaid = {"image", "entering"}
    if stored.adds_projector:
        unsaid |= {"projector", "leaving"}
    if model.section.kind == "decoder" and "-" not in model.section.pattern:
        unsaid.add("ffn")
    keys = {**model.section.model_dump(), **asdict(model.ends)}
    return {key: value for key, value in keys.items() if key not in unsaid}
