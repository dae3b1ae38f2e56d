"""Random synthetic data: lengths, items of each encoder, and what is absent."""

import random
from collections.abc import Mapping
from typing import Any

from counterpoint.kinds.modality import Modality, Small
from counterpoint.modalities import MODALITIES


def draw_data(generator: random.Random, taken: Mapping[str, Modality]) -> dict[str, Any]:
    """The section `data` for the modules that take items."""
    small = Small(
        without=generator.choice([0.0, 0.0, 0.3, 0.7, 1.0]),
        number={"kind": "uniform", "low": generator.choice([0, 1]), "high": generator.choice([1, 2, 3])},
        side={"kind": "uniform", "low": 8, "high": generator.choice([24, 40])},
    )
    synthetic: dict[str, Any] = {
        "documents": 64,
        "seed": generator.randrange(1000),
        "text_tokens": {"kind": "uniform", "low": 1, "high": generator.choice([6, 14])},
        "without_loss": generator.choice([0.0, 0.0, 0.3, 1.0]),
    }
    data: dict[str, Any] = {
        "train": [{"synthetic": synthetic}],
        "sequence_tokens": generator.choice([48, 64]),
        "packing": generator.choice([False, True]),
        "balance": generator.choice(["none", "sample", "cost", "cost"]),
    }
    encoders = [name for modality in MODALITIES.values() for name, own in taken.items() if own == modality]
    if encoders:
        synthetic["modules"] = {name: float(generator.choice([1, 1, 4])) for name in encoders}
        shares = [0.0, 0.0, 0.5, 0.9, 1.0]
        synthetic["without"] = {name: generator.choice(shares) for name in encoders if len(encoders) > 1}
    for modality in MODALITIES.values():
        if modality in taken.values():
            synthetic |= modality.drawing.small(generator, small)
    return data
