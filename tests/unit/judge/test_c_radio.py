"""A C-RADIO as NVIDIA publishes it, whose config.json names a tower of timm in place of sizes: transformers' RadioModel
of these sizes has the same tensors and parameters, and makes the same features of pictures on disk.

No folder of the hub is at hand: the config.json is written after those that are published, with every key that they
have which can matter, and tensors have the names under which transformers itself writes a RADIO.
"""

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from counterpoint.convert import radio_args
from counterpoint.convert.composite import VISION, composite_of
from counterpoint.convert.links import their_tensors
from counterpoint.convert.modules import kept_tensors
from counterpoint.inspection.hub import open_hub
from tests.unit.convert.test_published import ARGS, RADIO, TEACHERS
from tests.unit.judge.hub_documents import Documents
from tests.unit.judge.hub_files import Processors, start_run, write_documents, write_tokenizer
from tests.unit.judge.hub_folders import class_of, described
from tests.unit.judge.hub_judge import assert_same, judge_folder, whole_of
from tests.unit.judge.judge import REASON, quiet, randomize
from tests.unit.judge.models import Config

pytest.importorskip("transformers", reason=REASON)

TIMM: Mapping[str, tuple[int, int, int]] = {
    "vit_small_patch16_224": (384, 12, 6), "vit_base_patch16_224": (768, 12, 12),
    "vit_large_patch16_224": (1024, 24, 16), "vit_huge_patch16_224": (1280, 32, 16),
}  # fmt: skip
"""Width, layers and heads of timm's towers (timm/models/vision_transformer.py); MLPs are four times as wide."""

V4_TENSORS, V4_MILLIONS = 387, 631
"""Of a C-RADIOv4-H: tensors of its tower, and parameters without the table of positions, as its report states them
(Ranzinger et al., 2026, arXiv:2601.17237)."""

PATCH, TABLE = 16, 5
REGISTERS = 8 - len(TEACHERS)


def published(name: str, side: int) -> Config:
    """The config.json of a C-RADIO with a table of positions of `side` patches a side."""
    args = {**ARGS, "model": name, "cpe_max_size": PATCH * side, "register_multiple": len(TEACHERS) + REGISTERS}
    return {**RADIO, "args": args}


def judged(name: str, side: int, layers: int | None = None) -> Config:
    """The config.json of transformers' own RADIO of the same sizes, with so many layers."""
    hidden, all_layers, heads = TIMM[name]
    return {
        "model_type": "radio", "hidden_size": hidden, "num_hidden_layers": layers or all_layers, "patch_size": PATCH,
        "num_attention_heads": heads, "max_img_size": PATCH * side, "num_cls_tokens": len(TEACHERS),
        "num_registers": REGISTERS,
    }  # fmt: skip


def shapes_of(name: str, side: int, layers: int | None = None) -> dict[str, tuple[int, ...]]:
    """The tensors of a published C-RADIO, of its tower alone."""
    hidden, all_layers, _heads = TIMM[name]
    found: dict[str, tuple[int, ...]] = {
        "patch_generator.cls_token.token": (len(TEACHERS) + REGISTERS, hidden),
        "patch_generator.embedder.weight": (hidden, 3 * PATCH**2),
        "patch_generator.pos_embed": (1, side**2, hidden),
    }
    for layer in range(layers or all_layers):
        for leaf, (rows, columns) in {
            "attn.qkv": (3 * hidden, hidden), "attn.proj": (hidden, hidden), "mlp.fc1": (4 * hidden, hidden),
            "mlp.fc2": (hidden, 4 * hidden),
        }.items():  # fmt: skip
            found |= {f"blocks.{layer}.{leaf}.weight": (rows, columns), f"blocks.{layer}.{leaf}.bias": (rows,)}
        for leaf in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            found[f"blocks.{layer}.{leaf}"] = (hidden,)
    return {f"radio_model.model.{key}": shape for key, shape in found.items()}


@pytest.mark.parametrize("name", TIMM)
def test_a_published_tower_has_the_tensors_of_its_name(name: str) -> None:
    """At full size: names and shapes, and as many parameters as transformers' model, which adds LayerScale of ones."""
    quiet()
    stored = composite_of(published(name, 128)).modules[VISION]
    ours = {key: tuple(tensor.shape) for key, tensor in their_tensors(stored.links, kept_tensors(stored)).items()}
    expected = shapes_of(name, 128)
    assert {key: shape for key, shape in ours.items() if "layer_scale" not in key} == expected
    count = sum(prod(shape) for shape in expected.values())
    config = judged(name, 128)
    with torch.device("meta"):
        model = class_of("radio", config)(described(config))
    scales = sum(value.numel() for key, value in model.named_parameters() if "layer_scale" in key)
    assert sum(value.numel() for value in model.parameters()) == count + scales


def test_a_published_c_radio_v4_has_as_many_parameters_as_its_report_states() -> None:
    stored = composite_of(RADIO).modules[VISION]
    tensors = their_tensors(stored.links, kept_tensors(stored))
    sizes = {key: tensor.numel() for key, tensor in tensors.items() if "layer_scale" not in key}
    assert len(sizes) == V4_TENSORS
    table = sizes["radio_model.model.patch_generator.pos_embed"]
    assert round((sum(sizes.values()) - table) / 1e6) == V4_MILLIONS


def write_published(name: str, layers: int | None, folder: Path) -> Path:
    """Write transformers' RADIO of a tower's sizes with random values, and beside it the same as it is published."""
    quiet()
    config = judged(name, TABLE, layers)
    model = class_of("radio", config)(described(config)).double()
    randomize(model)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "layer_scale" in key:
                value.fill_(1.0)
    for one in ("norm_mean", "norm_std"):
        getattr(model.input_conditioner, one).copy_(torch.tensor(getattr(model.config, one)).view(3, 1, 1))
    model.save_pretrained(folder / "judge")
    tensors = load_file(folder / "judge" / "model.safetensors")
    kept = {key: tensor for key, tensor in tensors.items() if "layer_scale" not in key}
    tower = {key: tuple(tensor.shape) for key, tensor in kept.items() if ".model." in key}
    assert tower == shapes_of(name, TABLE, layers)
    target = folder / "published"
    target.mkdir()
    (target / "config.json").write_text(json.dumps(published(name, TABLE)))
    heads: dict[str, Tensor] = {"radio_model.adaptors.clip.head_mlp.fc1.weight": torch.zeros(2)}
    save_file({**kept, **heads}, target / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(target)
    return target


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("vit_small_patch16_224", 1),
        *(pytest.param(name, 1, marks=pytest.mark.more) for name in tuple(TIMM)[1:]),
        pytest.param("vit_small_patch16_224", None, marks=pytest.mark.more),
    ],
)
def test_features_and_gradients_of_pictures_on_disk_are_equal(
    name: str, layers: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the widths and heads of each name, of which all but one have one layer for the memory that they need."""
    if layers is not None:
        known: Any = radio_args._MODELS
        monkeypatch.setitem(known, name, known[name]._replace(layers=layers))
    folder = write_published(name, layers, tmp_path)
    whole = whole_of(folder)
    records = write_documents("radio", 0, whole, tmp_path / "files")
    run = start_run("radio", folder, tmp_path / "files", tmp_path)
    assert open_hub(folder).modules[0].kind == "a vit of a radio"
    documents = Documents("radio", folder, records, Processors(), whole, monkeypatch)
    verdict = judge_folder("radio", tmp_path / "judge", tmp_path / "gradients", monkeypatch, documents.theirs())
    assert_same(verdict, *run.say())
