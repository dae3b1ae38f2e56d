"""Hugging Face folders with random values, written without transformers."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.unit.judge.converted import from_ours, to_ours
from tests.unit.judge.models import Config, decoder_of, random_tensors


def write_folder(path: Path, config: Config, dtype: torch.dtype = torch.float64, shards: int = 1) -> dict[str, Tensor]:
    """Write a model's config.json and its tensors in `shards` files; returns ours, as a reader is to see them."""
    section = decoder_of(config)
    theirs = {n: t.to(dtype) for n, t in from_ours(config["model_type"], random_tensors(section), section).items()}
    write_tensors(path, config, theirs, shards)
    return to_ours(config["model_type"], theirs, section)


def write_tensors(path: Path, config: Config, theirs: Mapping[str, Tensor], shards: int = 1) -> None:
    """Write a folder with exactly these tensors."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file({name: tensor.contiguous() for name, tensor in theirs.items()}, path / "model.safetensors")
        return
    file_of = {name: f"model-{number % shards:05d}.safetensors" for number, name in enumerate(theirs)}
    for file in set(file_of.values()):
        save_file({n: t.contiguous() for n, t in theirs.items() if file_of[n] == file}, path / file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": file_of}))
