"""Configs that the tests of the configuration start from."""

import copy
from pathlib import Path
from typing import Any

import pytest

from counterpoint.config.yaml_text import parse_yaml

REPOSITORY = Path(__file__).parents[3]
_EMOJI: dict[str, Any] = parse_yaml((REPOSITORY / "examples" / "emoji.yaml").read_text())


@pytest.fixture
def emoji() -> dict[str, Any]:
    """The demo's config as plain data, free to change."""
    return copy.deepcopy(_EMOJI)


@pytest.fixture
def repository() -> Path:
    """The root of the repository."""
    return REPOSITORY
