"""Checkpoints of towers and of whole models to our tensors and back: exact, strict, and saying what is wrong."""

from typing import Any

import pytest
import torch
from torch import Tensor

from counterpoint.convert.composite import AUDIO, LANGUAGE, VISION, CompositeModel, composite_of
from counterpoint.convert.modules import kept_tensors
from counterpoint.errors import CheckpointError
from tests.unit.judge.converted import gradients_to_ours, modules_from_ours, modules_to_ours
from tests.unit.judge.models import empty_tensors, random_like
from tests.unit.judge.whole_configs import FOLDERS as CONFIGS
from tests.unit.judge.wholes import WHOLES

Modules = dict[str, dict[str, Tensor]]


def case(name: str) -> tuple[CompositeModel, Modules, dict[str, Tensor]]:
    """What a checkpoint holds, our tensors without a projector that it lacks, and the checkpoint's."""
    whole, generator = composite_of(CONFIGS[name]), torch.Generator().manual_seed(0)
    modules: Modules = {}
    for module, stored in whole.modules.items():
        kept = {
            n: t
            for n, t in empty_tensors(stored.model).items()
            if not (stored.adds_projector and n.startswith("projector."))
        }
        modules[module] = {n: random_like(tensor, generator) for n, tensor in kept.items()}
    return whole, modules, modules_from_ours(whole, modules)


def assert_equal(found: Modules, expected: Modules) -> None:
    assert {m: tensors.keys() for m, tensors in found.items()} == {m: tensors.keys() for m, tensors in expected.items()}
    assert all(torch.equal(found[m][n], tensor) for m, tensors in expected.items() for n, tensor in tensors.items())


@pytest.mark.parametrize("name", CONFIGS)
def test_there_and_back_is_exact(name: str) -> None:
    whole, ours, theirs = case(name)
    assert_equal(modules_to_ours(whole, theirs), ours)


@pytest.mark.parametrize("name", ["clip", "siglip", "siglip2", "llava"])
def test_names_without_the_towers_prefix_are_the_same(name: str) -> None:
    whole, ours, theirs = case(name)
    assert all("vision_model." in key for key in theirs if "language_model." not in key and "projector" not in key)
    short = {key.replace("vision_model.", ""): tensor for key, tensor in theirs.items()}
    assert_equal(modules_to_ours(whole, short), ours)


@pytest.mark.parametrize(("top", "text", "tied"), [(False, True, False), (True, False, True), (False, False, False)])
def test_the_whole_model_says_whether_words_are_tied(top: bool, text: bool, tied: bool) -> None:
    config = CONFIGS["qwen3_vl"]
    section = {**config["text_config"], "tie_word_embeddings": text}
    whole = composite_of({**config, "tie_word_embeddings": top, "text_config": section})
    assert whole.modules[LANGUAGE].model.section.tied is tied


def test_filters_over_time_have_the_shape_of_torchs() -> None:
    _whole, _ours, theirs = case("whisper")
    shapes = {key.rpartition("encoder.")[2]: tuple(tensor.shape) for key, tensor in theirs.items()}
    width, mels = CONFIGS["whisper"]["d_model"], CONFIGS["whisper"]["num_mel_bins"]
    assert (shapes["conv1.weight"], shapes["conv2.weight"]) == ((width, mels, 3), (width, width, 3))


def test_a_class_token_takes_the_position_that_is_added_to_it() -> None:
    whole, ours, theirs = case("clip")
    token, table = "vision_model.embeddings.class_embedding", "vision_model.embeddings.position_embedding.weight"
    assert not theirs[table][0].any()
    is_first = (torch.arange(len(theirs[table])) == 0)[:, None]
    moved = {**theirs, token: theirs[token] - 1, table: theirs[table] + is_first}
    torch.testing.assert_close(modules_to_ours(whole, moved)[VISION], ours[VISION])
    gradients = gradients_to_ours(whole, {**theirs, table: theirs[table] + 2})[VISION]
    assert (gradients["embed.prefix.weight"] == 2).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_missing_and_an_unknown_name_are_named(name: str) -> None:
    whole, ours, theirs = case(name)
    lost = sorted(theirs)[0]
    with pytest.raises(CheckpointError, match=f"The checkpoint lacks {lost}: "):
        modules_to_ours(whole, {key: tensor for key, tensor in theirs.items() if key != lost})
    with pytest.raises(CheckpointError, match=r"unknown .*more: "):
        modules_to_ours(whole, {**theirs, "more": torch.zeros(1)})
    (module, *_), (first, *_) = ours, ours[next(iter(ours))]
    fewer = {**ours, module: {key: tensor for key, tensor in ours[module].items() if key != first}}
    with pytest.raises(CheckpointError, match=f"The module {module} lacks {first}: "):
        modules_from_ours(whole, fewer)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_wrong_shape_is_named(name: str) -> None:
    whole, _ours, theirs = case(name)
    for wrong, tensor in theirs.items():
        with pytest.raises(CheckpointError, match=f"{wrong} of shape .* expected"):
            modules_to_ours(whole, {**theirs, wrong: torch.cat([tensor, tensor[:1]])})


@pytest.mark.parametrize(
    ("name", "section", "change", "message"),
    [
        ("clip", None, {"model_type": "vit"}, "'vit' is none of llama, "),
        ("clip", None, {"hidden_act": "relu"}, "says hidden_act: 'relu', but only 'gelu'"),
        ("siglip", None, {"image_size": None}, "says image_size: None, but only a whole number from 1"),
        ("siglip2", None, {"num_patches": 24}, "says num_patches: 24, but only a square number"),
        ("radio", None, {"use_swiglu_ffn": True}, "says use_swiglu_ffn: True, but only False"),
        ("qwen2_5_vl", "vision_config", {"hidden_act": "gelu"}, "vision_config says hidden_act: 'gelu'"),
        ("qwen2_5_vl", "vision_config", {"rope_parameters": {"rope_type": "yarn"}}, "rope_type: 'yarn'"),
        ("qwen3_vl", "vision_config", {"num_position_embeddings": 26}, "only a square number"),
        (
            "qwen3_vl",
            "text_config",
            {"rope_parameters": {"mrope_section": [1, -3, 2]}},
            "but only three whole numbers from 0 can",
        ),
        ("qwen3_vl", "vision_config", {"deepstack_visual_indexes": [0, 4]}, r"\[0, 4\], but only layers below 4, each"),
        ("qwen3_vl", "vision_config", {"deepstack_visual_indexes": [2, 2]}, "each once, can be converted"),
        ("qwen3_vl", "vision_config", {"deepstack_visual_indexes": [3, 2, 1, 0]}, "as the 3 layers of text at most"),
        ("qwen3_vl", None, {"hidden_size": 16}, "says hidden_size: 16, of which nothing is known"),
        ("qwen2_5_vl", None, {"hidden_size": 17}, "says hidden_size: 17, of which nothing is known"),
        ("qwen2_5_vl", "vision_config", {"num_heads": 3}, "num_heads: 3, but only a divisor of the width, 16,"),
        ("qwen3_vl", "vision_config", {"num_heads": 8}, "num_heads: 8, but only heads of 16 whose width is a multiple"),
        ("clip with text", "vision_config", {"gain": 2.0}, "config.json, vision_config says gain: 2.0, of which"),
        ("llava", None, {"vision_feature_select_strategy": "full"}, "says vision_feature_select_strategy: 'full'"),
        ("llava", None, {"vision_feature_layer": -5}, "says vision_feature_layer: -5, but only one of 3 layers"),
        ("llava", "vision_config", {"model_type": "siglip_vision_model"}, "only 'clip_vision_model'"),
        ("nemotron_h_omni", None, {"downsample_ratio": 0.25}, "says downsample_ratio: 0.25, but only 0.5"),
        ("nemotron_h_omni with sound", "audio_config", {"subsampling_factor": 6}, "only a power of two"),
        ("nemotron_h_omni with sound", "audio_config", {"num_mel_bins": 17}, "only a multiple of 8"),
        ("whisper", None, {"num_hidden_layers": 3}, "says num_hidden_layers: 3, but only 2 can be converted"),
    ],
)
def test_what_cannot_be_converted_is_refused(
    name: str, section: str | None, change: dict[str, Any], message: str
) -> None:
    config = CONFIGS[name]
    changed = {**config, **change} if section is None else {**config, section: {**config[section], **change}}
    with pytest.raises(CheckpointError, match=message):
        composite_of(changed)


def test_modules_are_read_as_they_are_meant() -> None:
    llava, qwen = composite_of(WHOLES["llava"]), composite_of(WHOLES["qwen3_vl"])
    # One of three layers stands above those whose features are read.
    assert llava.modules[VISION].model.section.layers == 2
    assert qwen.depths == ((0, 1), (2, 3))
    assert qwen.modules[LANGUAGE].model.ends.inserts == (1, 3)
    assert tuple(composite_of(WHOLES["nemotron_h_omni with sound"]).modules) == (VISION, AUDIO, LANGUAGE)


def test_a_head_that_is_stored_beside_tied_words_is_their_copy() -> None:
    tied = {**CONFIGS["llava"], "tie_word_embeddings": True}
    whole = composite_of(tied)
    generator = torch.Generator().manual_seed(0)
    language = kept_tensors(whole.modules[LANGUAGE])
    vision = kept_tensors(whole.modules[VISION])
    ours = {
        LANGUAGE: {n: random_like(t, generator) for n, t in language.items()},
        VISION: {n: random_like(t, generator) for n, t in vision.items()},
    }
    theirs = modules_from_ours(whole, ours)
    head, words = "language_model.lm_head.weight", "language_model.model.embed_tokens.weight"
    assert head not in theirs
    assert_equal(modules_to_ours(whole, {**theirs, head: theirs[words].clone()}), ours)
    # transformers leaves them untied if they differ, and ties both to the head if there is no embedding.
    apart = modules_to_ours(whole, {**theirs, head: theirs[words] + 1})
    assert torch.equal(apart[LANGUAGE]["head.weight"], theirs[words] + 1)
    assert torch.equal(apart[LANGUAGE]["embed.weight"], theirs[words])
    alone = {**{n: t for n, t in theirs.items() if n != words}, head: theirs[words]}
    assert_equal(modules_to_ours(whole, alone), ours)
