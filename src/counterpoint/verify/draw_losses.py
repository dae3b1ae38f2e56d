"""Random losses beside the main one."""

import random
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from counterpoint.config.schema import Config
from counterpoint.families import family_of
from counterpoint.kinds.family import ModelSection
from counterpoint.losses import LOSSES

_SHARE = 0.5
"""The share of modules that have further losses, and the share of fitting kinds that such a module has."""

_WEIGHTS = (0.01, 0.3)


def draw_losses(
    base: Config, modules: Mapping[str, dict[str, Any]], reached: Collection[str], generator: random.Random
) -> None:
    """Give drawn modules losses of kinds that fit their outputs; `reached` are the modules that gradients reach."""
    for name, module in modules.items():
        has_some = generator.random() < _SHARE
        drawn = list(_drawn(base.modules[name].model, generator)) if has_some else []
        module["losses"] = drawn if name in reached else []


def _drawn(model: ModelSection, generator: random.Random) -> Iterator[dict[str, Any]]:
    for name, kind in LOSSES.items():
        if kind.of_scores == family_of(model).reads_documents and generator.random() < _SHARE:
            yield {"kind": name, "weight": generator.choice(_WEIGHTS), **kind.drawn(generator)}
