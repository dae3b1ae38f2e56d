"""Published config.json files, of which only keys that are sure are kept: as many parameters as their folders have."""

import json
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from counterpoint.convert.composite import AUDIO, LANGUAGE, VISION, as_of_today, composite_of
from counterpoint.families import facts_of
from tests.unit.judge.hub_folders import class_of
from tests.unit.judge.judge import REASON, quiet
from tests.unit.judge.wholes import HEARING

FOLDER = Path(__file__).parent / "published"


class Published(NamedTuple):
    """Parameters of a folder as its model card or index states them, and how many of them are not read here."""

    folder: str
    parameters: int
    unread: int = 0


_CLIP_LAYER = 4 * 1024 * 1025 + 2 * 1024 * 4096 + 4096 + 1024 + 4 * 1024
_CLIP_ENDS = 2 * 1024 + 1024
"""The norm of the class row, and its position, which is added to the class token."""

PUBLISHED = {
    "llama2_7b": Published("meta-llama/Llama-2-7b-hf", 6_738_415_616),
    "llama3_rope": Published("meta-llama/Llama-3.1-8B", 8_030_261_248),
    "llama3_1_70b": Published("meta-llama/Llama-3.1-70B", 70_553_706_496),
    "llama3_2_1b": Published("meta-llama/Llama-3.2-1B", 1_235_814_400),
    "qwen2_5_0_5b": Published("Qwen/Qwen2.5-0.5B", 494_032_768),
    "qwen2_5_7b": Published("Qwen/Qwen2.5-7B", 7_615_616_512),
    "qwen2_5_vl_flat": Published("Qwen/Qwen2.5-VL-7B-Instruct", 8_292_166_656),
    # Its index counts the head once more, which is stored though it is tied: 751,632,384.
    "qwen3_tied_head_stored": Published("Qwen/Qwen3-0.6B", 596_049_920),
    "qwen3_8b": Published("Qwen/Qwen3-8B", 8_190_735_360),
    "qwen3_30b_a3b": Published("Qwen/Qwen3-30B-A3B", 30_532_122_624),
    "qwen3_vl_8b": Published("Qwen/Qwen3-VL-8B-Instruct", 8_767_123_696),
    "nemotron_3_nano_30b_a3b": Published("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 31_577_937_344),
    "nemotron_nano_9b_v2": Published("nvidia/NVIDIA-Nemotron-Nano-9B-v2", 8_888_227_328),
    "llava_defaults_left_out": Published("llava-hf/llava-1.5-7b-hf", 7_063_427_072, _CLIP_LAYER + _CLIP_ENDS),
    "clip_vit_large_336": Published("openai/clip-vit-large-patch14-336", 427_944_193, 124_439_809),
    "siglip_so400m_384": Published("google/siglip-so400m-patch14-384", 877_960_498, 464_973_250),
    "whisper_large_v3": Published("openai/whisper-large-v3", 1_543_490_560, 906_521_600),
    "siglip_sections_empty": Published("google/siglip-base-patch16-224", 203_155_970, 117_358_850),
}
"""By the file's name. A tower alone leaves a tower of text, a decoder or a head unread."""

ROUNDED = {
    # The abstract of the report on SigLIP 2 (arXiv:2502.14786): ViT-B of 86M, So400m of 400M.
    "siglip2_base_naflex": (86, 10**6),
    "siglip2_so400m_naflex": (4, 10**8),
    # The announcement of the Parakeet models on developer.nvidia.com: 0.6B and 1.1B.
    "parakeet_ctc_0_6b": (6, 10**8),
    "parakeet_ctc_1_1b": (11, 10**8),
}
"""Towers of which only a rounded number of parameters is stated, and the unit to which it is."""

_TOWERS = tuple(name for name, one in PUBLISHED.items() if one.unread and name != "llava_defaults_left_out")


def config_of(name: str) -> dict[str, Any]:
    """A published file."""
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return content


def ours(name: str) -> int:
    """Parameters of all modules, without projectors that a folder lacks."""
    number = 0
    for stored in composite_of(config_of(name)).modules.values():
        for part in facts_of(stored.model).parts:
            if part.name != "projector" or not stored.adds_projector:
                number += sum(prod(shape) for _name, shape in part.tensors)
    return number


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_full_size_has_as_many_parameters_as_published(name: str) -> None:
    assert ours(name) + PUBLISHED[name].unread == PUBLISHED[name].parameters


@pytest.mark.parametrize("name", ROUNDED)
def test_a_tower_has_as_many_parameters_as_its_authors_round_to(name: str) -> None:
    stated, unit = ROUNDED[name]
    assert round(ours(name) / unit) == stated


@pytest.mark.more
@pytest.mark.parametrize("name", PUBLISHED)
def test_transformers_makes_as_many_of_the_same_file(name: str) -> None:
    pytest.importorskip("transformers", reason=REASON)
    quiet()
    config = config_of(name)
    family = "whisper with a head" if name.startswith("whisper") else config["model_type"]
    with torch.device("meta"):
        cls = class_of(family, config)
        model = cls(cls.config_class(**{key: value for key, value in config.items() if key != "model_type"}))
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[name].parameters


@pytest.mark.more
@pytest.mark.parametrize("name", [*_TOWERS, *ROUNDED])
def test_what_is_not_read_is_not_of_the_tower(name: str) -> None:
    """The tower's own parameters, but for its head of pooled rows, are those that are read."""
    pytest.importorskip("transformers", reason=REASON)
    quiet()
    config = config_of(name)
    with torch.device("meta"):
        cls = class_of(config["model_type"], config)
        model = cls(cls.config_class(**{key: value for key, value in config.items() if key != "model_type"}))
    tower = model.encoder if name.startswith(("whisper", "parakeet")) else model.vision_model
    sizes = {key: parameter.numel() for key, parameter in tower.named_parameters()}
    pooled = sum(size for key, size in sizes.items() if key.startswith("head."))
    if name.startswith("clip"):
        pooled += _CLIP_ENDS
    assert sum(sizes.values()) - pooled == ours(name)


def test_keys_of_the_authors_files_are_those_of_today() -> None:
    names = {"text_config": "llm_config", "audio_config": "sound_config", "vision_hidden_size": "vit_hidden_size",
             "image_token_id": "img_context_token_id", "audio_token_id": "sound_context_token_id"}  # fmt: skip
    older = {names.get(key, key): value for key, value in HEARING.items()}
    assert older.keys() != HEARING.keys()
    assert dict(as_of_today(older)) == HEARING
    modules = composite_of(older).modules
    assert modules.keys() == {VISION, AUDIO, LANGUAGE}
    assert {name: one.model for name, one in modules.items()} == {
        name: one.model for name, one in composite_of(HEARING).modules.items()
    }
    both = {**HEARING, "llm_config": {"hidden_size": 3}}
    assert as_of_today(both)["text_config"] == HEARING["text_config"]
