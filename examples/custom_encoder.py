"""Bring your own encoder: a small ConvNet, written here, in front of a decoder, on synthetic documents.

Ranks:  3: the ConvNet dp2 (FSDP2) on 0-1, language on 2. A step may leave a rank without images: it joins by itself.
Time:   half a minute on two cores.
Expect: the loss stays near log(97) = 4.6, since synthetic tokens are uniform.

    python examples/custom_encoder.py                         # trains
    python examples/custom_encoder.py training.steps=5        # with an override
"""

import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

import counterpoint


class ConvNet(nn.Module):
    """Images (n, 3, height, width) to (n, tokens, width): three strides of 2, a token for each 8 x 8 pixels."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width // 4, 3, 2, 1), nn.GELU(), nn.Conv2d(width // 4, width // 2, 3, 2, 1), nn.GELU(),
            nn.Conv2d(width // 2, width, 3, 2, 1),
        )  # fmt: skip
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(4, width), nn.Conv2d(width, width, 3, 1, 1), nn.GELU()) for _ in range(depth)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        maps: Tensor = self.stem(pixels)
        for block in self.blocks:
            maps = maps + block(maps)
        return maps.flatten(2).transpose(1, 2)


def build(options: Mapping[str, Any]) -> nn.Module:
    """The tower of the config's options."""
    return ConvNet(width=64, depth=options["depth"])


# At the top level, because every rank imports this script again.
counterpoint.register_module("conv_net", build, initial={"*.weight": (0.0, 0.1)})

CONFIG = {
    "run": {"dir": "runs/custom_encoder", "device": "cpu"},
    "world": {"size": 3},
    "modules": {
        "vision": {
            "model": {
                "kind": "custom", "name": "conv_net", "hidden": 64, "patch": 8, "merge": 2, "options": {"depth": 2},
                "image": {"max_patches": 64},
                "projector": {"kind": "mlp", "hidden": 64},
            },
            "layout": {"ranks": [0, 1], "dp_shard": 2},
            "recompute": "full",
            "optimizer": {"lr": 1.0e-3, "weight_decay": 0.05},
        },
        "language": {
            "model": {"kind": "decoder", "pattern": "*-*-", "hidden": 64, "heads": 4, "ffn": 128, "vocab": 97},
            "layout": {"ranks": [2]},
            "optimizer": {"lr": 1.0e-3, "weight_decay": 0.05},
        },
    },
    "edges": [{"source": "vision", "target": "language"}],
    "schedule": {"microbatches": 2},
    "data": {
        "train": [
            {
                "synthetic": {
                    "documents": 256,
                    "text_tokens": {"kind": "uniform", "low": 8, "high": 32},
                    "images_per_document": {"kind": "uniform", "low": 0, "high": 2},
                    "image_height": {"kind": "uniform", "low": 16, "high": 64},
                    "image_width": {"kind": "uniform", "low": 16, "high": 64},
                    "without_images": 0.5,
                }
            }
        ],
        "sequence_tokens": 96,
    },
    "training": {"steps": 20, "global_batch_samples": 8},
    "checkpoint": {"resume": "none"},
}  # fmt: skip

if __name__ == "__main__":
    counterpoint.train(CONFIG, sys.argv[1:])
