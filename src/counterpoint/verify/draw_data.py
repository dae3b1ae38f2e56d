"""Random synthetic data: lengths, images and clips of each encoder, and what is absent."""

import random
from typing import Any


def draw_data(generator: random.Random, images: list[str], clips: list[str], given: list[str]) -> dict[str, Any]:
    """The section `data` for the modules that take images, those that take clips, and those of features."""
    absent = generator.choice([0.0, 0.0, 0.3, 0.7, 1.0])
    counts = {"kind": "uniform", "low": generator.choice([0, 1]), "high": generator.choice([1, 2, 3])}
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
    encoders = [*images, *clips, *given]
    if encoders:
        synthetic["modules"] = {name: float(generator.choice([1, 1, 4])) for name in encoders}
        shares = [0.0, 0.0, 0.5, 0.9, 1.0]
        synthetic["without"] = {name: generator.choice(shares) for name in encoders if len(encoders) > 1}
    if images:
        synthetic |= {
            "images_per_document": counts, "image_height": side, "image_width": side, "without_images": absent,
        }  # fmt: skip
    if clips:
        synthetic |= {
            "audio_per_document": {
                "kind": "uniform",
                "low": generator.choice([0, 1]),
                "high": generator.choice([1, 2]),
            },
            "audio_milliseconds": {"kind": "uniform", "low": 1, "high": generator.choice([100, 250])},
            "without_audio": generator.choice([0.0, 0.0, 0.3, 0.7, 1.0]),
        }
    if given:
        synthetic |= {
            "features_per_document": counts,
            "feature_rows": {"kind": "uniform", "low": 1, "high": generator.choice([4, 9])},
            "without_features": absent,
        }
    return data
