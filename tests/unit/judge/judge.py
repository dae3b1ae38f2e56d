"""transformers as the judge: its model of a config, in float64, and what it says of a batch."""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.convert.folder import ModelFolder
from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.models.batch import TextBatch
from counterpoint.plan.samples import NO_LABEL
from tests.unit.judge.converted import to_ours
from tests.unit.judge.lifted import lift_casts
from tests.unit.judge.models import Config, decoder_of, random_like

REASON = "transformers, the judge of these models, is not installed (pip install 'transformers>=5.20')"
VISION: Config = {"depth": 1, "embed_dim": 8, "num_heads": 1, "patch_size": 2}
"""Of the encoder that comes with a language model of images and text, and is not looked at."""


@dataclass(frozen=True)
class Verdict:
    """What the judge says of a batch: logits (rows, vocab), and by our names weights and the loss's gradients."""

    section: DecoderConfig
    weights: dict[str, Tensor]
    logits: Tensor
    gradients: dict[str, Tensor]


def judge(
    config: Config, batch: TextBatch, folder: Path, patch: pytest.MonkeyPatch | None, *, has_own_start: bool = False
) -> Verdict:
    """Build a model of random values, run it on one document, and read values and gradients from what it saves.

    With a `patch` its casts to float32 are lifted. With its own start it has the values that its code begins with.
    """
    quiet()
    torch.manual_seed(0)
    model = build(config, patch)
    if not has_own_start:
        randomize(model)
    weights = saved(model, folder / "weights")
    section = decoder_of(saved_config(folder / "weights"))
    # Straight from the head: the models themselves may cast their logits.
    logits = model.lm_head(hidden_rows(model, batch))
    loss = F.cross_entropy(logits, batch.labels, ignore_index=NO_LABEL, reduction="sum") / batch.loss_denominator
    loss.backward()
    gradients = saved(with_gradients(model), folder / "gradients")
    family = config["model_type"]
    by_ours = to_ours(family, gradients, section, are_gradients=True)
    return Verdict(section, to_ours(family, weights, section), logits.detach(), by_ours)


def quiet() -> None:
    """Keep its progress bars and advice out of the tests' output."""
    transformers = pytest.importorskip("transformers", reason=REASON)
    transformers.logging.set_verbosity(logging.ERROR)
    transformers.logging.disable_progress_bar()


def build(config: Config, patch: pytest.MonkeyPatch | None) -> Any:
    """The judge's model of a config, with attention and experts as plain PyTorch, in float64."""
    transformers = pytest.importorskip("transformers", reason=REASON)
    content = {key: value for key, value in config.items() if key != "model_type"}
    if config["model_type"] == "qwen2_vl_text":
        described = transformers.Qwen2VLConfig(text_config=content, vision_config=VISION)
        model_class = transformers.Qwen2VLForConditionalGeneration
    else:
        described = transformers.AutoConfig.for_model(config["model_type"], **content)
        model_class = transformers.AutoModelForCausalLM._model_mapping[type(described)]
    described._attn_implementation = "eager"
    described._experts_implementation = "eager"
    if patch is not None:
        for name in (model_class.__module__, "transformers.modeling_rope_utils"):
            lift_casts(patch, sys.modules[name])
    return model_class(described).double().eval()


def hidden_rows(model: Any, batch: TextBatch) -> Tensor:
    """What the judge's head reads, (rows, hidden)."""
    if batch.positions.ndim == 1:
        out = model.model(input_ids=batch.ids[None], use_cache=False)
    else:
        positions = batch.positions.T[:, None]
        out = model.model.language_model(batch.ids[None], position_ids=positions, use_cache=False)
    rows: Tensor = out.last_hidden_state[0]
    return rows


def randomize(model: nn.Module) -> None:
    """Values for every parameter, and for the buffers that a checkpoint holds: expert biases."""
    generator = torch.Generator().manual_seed(1)
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in model.state_dict()}
    numbers = [buffer for buffer in buffers.values() if buffer.is_floating_point()]
    with torch.no_grad():
        for tensor in (*model.parameters(), *numbers):
            tensor.copy_(random_like(tensor, generator))


def with_gradients(model: nn.Module) -> nn.Module:
    """The model with its gradients in the place of its weights; what had no part in the loss stays as it is."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.copy_(parameter.grad)
    return model


def saved(model: Any, folder: Path) -> dict[str, Tensor]:
    """What its own code writes to disk, read back, without an encoder of images."""
    model.save_pretrained(folder)
    return {name: tensor for name, tensor in read_all(folder)[1].items() if not name.startswith("visual.")}


def read_all(folder: Path) -> tuple[Config, dict[str, Tensor]]:
    """The config.json and all tensors of a folder, read as a run reads them."""
    opened = ModelFolder(folder)
    return opened.config, {name: opened.read(name, None) for name in opened.shapes}


def saved_config(folder: Path) -> Config:
    """The config.json of the decoder in a folder."""
    config = ModelFolder(folder).config
    text: Config = config.get("text_config", config)
    return text
