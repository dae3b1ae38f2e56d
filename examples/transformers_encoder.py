"""An encoder of transformers as a module: SigLIP's tower, of random weights, tensor-parallel and frozen or trained.

Ranks:  4: the tower tp2 (dp2 where there are 4 of it) on 0-1, language dp2 on 2-3. Needs `pip install transformers`.
Time:   half a minute on two cores.
Expect: the loss stays near log(97) = 4.6, since synthetic tokens are uniform.

    python examples/transformers_encoder.py
    python examples/transformers_encoder.py modules.vision.layout.tp=1          # dp2 instead
    python examples/transformers_encoder.py 'modules.vision.train=[projector.*]'

With a checkpoint, give `register_module` also `weights=lambda options: load_file(options["file"])`, a mapping from this
module's names to tensors; a rank keeps its own pieces of them.
"""

import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import SiglipVisionConfig, SiglipVisionModel

import counterpoint


class Siglip(nn.Module):
    """Images to the rows that the tower makes of their patches, its positions fitted to each size."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.tower = SiglipVisionModel(SiglipVisionConfig(**options, vision_use_head=False))

    def forward(self, pixels: Tensor) -> Tensor:
        rows: Tensor = self.tower(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state
        return rows


# At the top level, because every rank imports this script again.
counterpoint.register_module(
    "siglip",
    Siglip,
    tensor_rules={"*.[qkv]_proj": "outputs", "*.out_proj": "inputs", "*.fc1": "outputs", "*.fc2": "inputs"},
)

CONFIG = {
    "run": {"dir": "runs/transformers_encoder", "device": "cpu"},
    "world": {"size": 4},
    "modules": {
        "vision": {
            "model": {
                "kind": "custom", "name": "siglip", "hidden": 48, "patch": 8, "merge": 2, "layers": 2,
                "image": {"max_patches": 64},
                "options": {
                    "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
                    "image_size": 48, "patch_size": 8,
                },
                "projector": {"kind": "mlp", "hidden": 64},
            },
            "layout": {"ranks": [0, 1], "tp": 2},
            "optimizer": {"lr": 1.0e-3, "weight_decay": 0.05},
        },
        "language": {
            "model": {"kind": "decoder", "pattern": "*-*-", "hidden": 64, "heads": 4, "ffn": 128, "vocab": 97},
            "layout": {"ranks": [2, 3]},
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
