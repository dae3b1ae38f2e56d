"""Random synthetic data: lengths, images of each encoder, and what is absent."""

import random
from typing import Any


def draw_data(generator: random.Random, encoders: list[str]) -> dict[str, Any]:
    """The section `data`; `encoders` are the modules that take images."""
    absent = generator.choice([0.0, 0.0, 0.3, 0.7, 1.0])
    images = {"kind": "uniform", "low": generator.choice([0, 1]), "high": generator.choice([1, 2, 3])}
    side = {"kind": "uniform", "low": 8, "high": generator.choice([24, 40])}
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
    if encoders:
        synthetic |= {
            "images_per_document": images, "image_height": side, "image_width": side, "without_images": absent,
            "modules": {name: float(generator.choice([1, 1, 4])) for name in encoders},
            "without": {name: generator.choice([0.0, 0.0, 0.5, 0.9, 1.0]) for name in encoders if len(encoders) > 1},
        }  # fmt: skip
        data["image"] = {"size": None, "max_patches": 16}
    return data
