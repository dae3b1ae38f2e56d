"""Checkpoints of a tiny RADIO as Megatron writes them, made without it: names, interleaved queries, chunks, decoys."""

import io
import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import SavePlan, TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.state_dict_saver import save

from counterpoint.kinds.family import Model
from counterpoint.parallelize.blocks import Sharding, block_of
from counterpoint.train.state.stored_block import BlockSavePlanner, StoredBlock
from tests.unit.models.model_samples import LINEAR, vit

LAYERS, HIDDEN, HEADS, HEAD, FFN, PATCH, SIDE, ROWS = 3, 32, 4, 8, 64, 14, 4, 10
PREFIX = "model.vision_model."
DECOYS = ("model.language_model.", "model.vision_projection.", "optimizer.state.exp_avg.vision_model.")
RADIO: dict[str, Any] = {
    "model_type": "radio", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "mlp_ratio": FFN / HIDDEN, "patch_size": PATCH, "max_img_size": SIDE * PATCH, "num_cls_tokens": 3,
    "num_registers": ROWS - 3, "hidden_act": "gelu_pytorch_tanh",
}  # fmt: skip
"""The config.json of the same encoder on the hub."""
Named = dict[str, Tensor]


def tower(**keys: Any) -> Model:
    """The module that starts from such a checkpoint."""
    sizes = {
        "layers": LAYERS, "hidden": HIDDEN, "heads": HEADS, "ffn": FFN, "patch": PATCH, "positions": SIDE,
        "prefix": ROWS, "fit": "crop", "patch_bias": False, "final_norm": False, "activation": "gelu_tanh",
        "projector": LINEAR | {"bias": False}, "leaving": HIDDEN,
    }  # fmt: skip
    return vit(**(sizes | keys))


def random_encoder(dtype: torch.dtype = torch.float64) -> Named:
    """Its tensors by names of transformers, below `radio_model.`: random, and without LayerScale."""
    generator = torch.Generator().manual_seed(5)
    shapes: dict[str, tuple[int, ...]] = {
        "model.patch_generator.cls_token.token": (ROWS, HIDDEN),
        "model.patch_generator.pos_embed": (1, SIDE**2, HIDDEN),
        "model.patch_generator.embedder.weight": (HIDDEN, 3 * PATCH**2),
    }
    for layer in range(LAYERS):
        linears = {
            "attn.qkv": (3 * HIDDEN, HIDDEN),
            "attn.proj": (HIDDEN, HIDDEN),
            "mlp.fc1": (FFN, HIDDEN),
            "mlp.fc2": (HIDDEN, FFN),
        }
        for name, shape in linears.items():
            shapes |= {f"model.blocks.{layer}.{name}.weight": shape, f"model.blocks.{layer}.{name}.bias": shape[:1]}
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            shapes[f"model.blocks.{layer}.{name}"] = (HIDDEN,)
    return {
        f"radio_model.{name}": (0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)
        for name, shape in shapes.items()
    }


def as_megatron(theirs: Mapping[str, Tensor], *, own_norms: bool = False, thirds: bool = False) -> Named:
    """An encoder's tensors under Megatron's names; `thirds` is the mistake of leaving q, k and v one after another."""
    plain = {"attn.proj": "self_attention.linear_proj", "mlp.fc1": "mlp.linear_fc1", "mlp.fc2": "mlp.linear_fc2"}
    norms = {"norm1": "input_layernorm.", "norm2": "pre_mlp_layernorm."}
    if not own_norms:
        norms = {"norm1": "self_attention.linear_qkv.layer_norm_", "norm2": "mlp.linear_fc1.layer_norm_"}
    # Row by row: of each head in turn its queries, its keys and its values.
    order = [which * HIDDEN + head * HEAD + row for head in range(HEADS) for which in range(3) for row in range(HEAD)]
    made = {
        "class_token": theirs["radio_model.model.patch_generator.cls_token.token"],
        "position_embeddings": theirs["radio_model.model.patch_generator.pos_embed"],
        "embedder.weight": theirs["radio_model.model.patch_generator.embedder.weight"],
    }
    for layer in range(LAYERS):
        block, there = f"radio_model.model.blocks.{layer}.", f"decoder.layers.{layer}."
        for kind in ("weight", "bias"):
            qkv = theirs[f"{block}attn.qkv.{kind}"]
            made[f"{there}self_attention.linear_qkv.{kind}"] = qkv if thirds else qkv[order]
            for name, other in plain.items():
                made[f"{there}{other}.{kind}"] = theirs[f"{block}{name}.{kind}"]
            for name, other in norms.items():
                made[f"{there}{other}{kind}"] = theirs[f"{block}{name}.{kind}"]
    return made


def stacked(tensors: Mapping[str, Tensor]) -> Named:
    """The same with one tensor for all layers, as torch_dist keeps them."""
    begin = "decoder.layers."
    made = {name: tensor for name, tensor in tensors.items() if not name.startswith(begin)}
    for name in (name.removeprefix(f"{begin}0.") for name in tensors if name.startswith(f"{begin}0.")):
        made[f"{begin}{name}"] = torch.stack([tensors[f"{begin}{layer}.{name}"] for layer in range(LAYERS)])
    return made


def write_whole(folder: Path, tensors: Mapping[str, Tensor], prefix: str = PREFIX, *, decoys: bool = True) -> Path:
    """As one process writes `{"model": ..., "iteration": 7, ...}`, with decoys and what Transformer Engine adds."""
    state: dict[str, Any] = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
    for layer in range(LAYERS):
        at = f"{prefix}decoder.layers.{layer}."
        state[f"{at}self_attention.linear_qkv._extra_state"] = io.BytesIO(pickle.dumps(_Planted()))
        state[f"{at}mlp.linear_fc1._extra_state"] = torch.zeros(5, dtype=torch.uint8)
        state[f"{at}mlp.linear_fc2._extra_state/shard_{layer}_3"] = io.BytesIO(b"junk")
    if decoys:
        for begin in DECOYS:
            state |= {f"{begin}{name}": torch.full_like(tensor, 7) for name, tensor in tensors.items()}
        for begin in DECOYS[:2]:
            state.pop(f"{begin}class_token", None)
    state |= {"iteration": 7, "checkpoint_version": 3.0}
    _save(state, folder)
    return folder


def write_chunks(folder: Path, tensors: Mapping[str, Tensor], prefix: str = PREFIX) -> Path:
    """As two tensor-parallel ranks write it: chunks along the first dimension, or the second of the row-parallel."""
    folder.mkdir(parents=True)
    storage, planners = FileSystemWriter(folder, sync_files=False), []
    storage.set_up_storage_writer(is_coordinator=True)
    for rank in range(2):
        blocks = {}
        for name, tensor in tensors.items():
            dim = 1 if name.endswith(("linear_proj.weight", "linear_fc2.weight")) else 0
            block = block_of(name, Sharding(tuple(tensor.shape), "shard", dim=dim), rank, 2, 0, 1)
            if block.numel:
                blocks[f"{prefix}{name}"] = StoredBlock(block, tensor[block.global_slices].contiguous())
        planner = BlockSavePlanner(flatten_state_dict=False)
        planner.set_up_planner(blocks, is_coordinator=rank == 0)
        planners.append(planner)
    plans, metadata = planners[0].create_global_plan([planner.create_local_plan() for planner in planners])
    plans = storage.prepare_global_plan(plans)
    pairs = zip(plans, planners, strict=True)
    written = [storage.write_data(planner.finish_plan(plan), planner) for plan, planner in pairs]
    storage.finish(metadata, [results.wait() for results in written])
    return folder


def write_torch_dist(root: Path, tensors: Mapping[str, Tensor], iteration: int = 42, tracker: str | None = "") -> Path:
    """As Megatron's own format: stacked layers below an iteration's folder, plans in the metadata, pickles beside."""
    folder = root / f"iter_{iteration:07d}"
    write_whole(folder, stacked(tensors), "vision_model.", decoys=False)
    (folder / "metadata.json").write_text(json.dumps({"sharded_backend": "torch_dist", "sharded_backend_version": 1}))
    (folder / "common.pt").write_bytes(pickle.dumps(_Planted()))
    (root / "latest_train_state.pt").write_bytes(pickle.dumps(_Planted()))
    metadata: Metadata = pickle.loads((folder / ".metadata").read_bytes())
    size = torch.Size([2, 3])
    chunk = ChunkStorageMetadata(torch.Size([0, 0]), size)
    data = TensorWriteData(chunk, TensorProperties(), size)
    item = WriteItem(MetadataIndex("a", [0, 0]), WriteItemType.SHARD, tensor_data=data)
    metadata.__dict__ |= {"all_local_plans": [SavePlan([item], storage_data={}, planner_data={"a": ("a",)})]}
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    if tracker is not None:
        (root / "latest_checkpointed_iteration.txt").write_text(tracker or f"{iteration}\n")
    return folder


class _Planted:
    """Makes a folder if anything builds it."""

    def __reduce__(self) -> Any:
        import os

        return os.mkdir, ("planted",)


def _save(state: Mapping[str, Any], folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        save(dict(state), storage_writer=FileSystemWriter(folder, sync_files=False), no_dist=True)
