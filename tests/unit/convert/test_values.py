"""Whatever value a config.json has, it is converted or refused with a CheckpointError."""

import copy
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from counterpoint.convert.composite import composite_of
from counterpoint.convert.modules import kept_tensors
from counterpoint.errors import CheckpointError
from tests.unit.judge.models import CONFIGS, Config
from tests.unit.judge.whole_configs import FOLDERS

EVERY = {**CONFIGS, **FOLDERS}

SMALL: tuple[Any, ...] = (0, -1, 1, 3, True, 0.0, -0.5, None, "x", "", [], [0], [-1], {})
LARGE: tuple[Any, ...] = (10**4 + 1, 10**25, 10**400, 1e200, [10**25])
"""Sizes of which nothing is built."""


def flipped(config: Config, values: tuple[Any, ...]) -> Iterator[Config]:
    """The config with each of its keys, also those of its sections, in turn with each value."""
    for path in paths(config):
        for value in values:
            changed = copy.deepcopy(config)
            section = changed
            for key in path[:-1]:
                section = section[key]
            section[path[-1]] = value
            yield changed


def paths(config: Config) -> Iterator[tuple[str, ...]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from ((key, *path) for path in paths(value))
        yield (key,)


@pytest.mark.parametrize("name", EVERY)
def test_small_values_are_converted_or_refused(name: str) -> None:
    for config in flipped(EVERY[name], SMALL):
        with suppress(CheckpointError):
            for stored in composite_of(config).modules.values():
                kept_tensors(stored)


@pytest.mark.parametrize("name", EVERY)
def test_large_values_are_converted_or_refused(name: str) -> None:
    for config in flipped(EVERY[name], LARGE):
        with suppress(CheckpointError):
            composite_of(config)
