"""Random options of attention: biases, columns that rotate, and positions scaled for longer documents."""

import random
from collections.abc import Mapping
from typing import Any

_ORIGINAL_POSITIONS = 8
"""Some drawn documents are longer, some are not."""

_FEWEST_COLUMNS = 4
"""Fewest columns that rotate where the base follows a document's length."""

_IS_SCALED, _IS_PARTIAL = 0.5, 0.4
"""The shares of decoders with rotary positions whose positions are scaled, or rotate a part of a head."""


def draw_attention(model: Any, variant: Mapping[str, Any], generator: random.Random) -> dict[str, Any]:
    """Keys of a decoder with a drawn variant of it."""
    drawn: dict[str, Any] = {key: generator.choice([None, True, False]) for key in ("attention_bias", "mlp_bias")}
    if model.rope_theta is None:
        return drawn
    width = model.head_size
    if variant.get("rope_sections") is None and width >= _FEWEST_COLUMNS and generator.random() < _IS_PARTIAL:
        width = drawn["rope_width"] = generator.randrange(2, width, 2)
    if generator.random() < _IS_SCALED:
        drawn["rope_scaling"] = _draw_scaling(width, generator)
    return drawn


def _draw_scaling(width: int, generator: random.Random) -> dict[str, Any]:
    """A section of any kind that a head with so many rotating columns may have."""
    short, long = ([generator.uniform(1, 8) for _pair in range(width // 2)] for _length in range(2))
    original = {"original_positions": _ORIGINAL_POSITIONS}
    sections: dict[str, dict[str, Any]] = {
        "linear": {"factor": 3.0},
        "yarn": {"factor": 3.0, **original},
        "llama3": {"factor": 3.0, **original},
        "longrope": {"short_factors": short, "long_factors": long, "attention_factor": 1.2, **original},
    }
    if width >= _FEWEST_COLUMNS:
        sections["dynamic"] = {"factor": 3.0, **original}
    kind = generator.choice(list(sections))
    return {"kind": kind, **sections[kind]}
