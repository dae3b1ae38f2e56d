"""What a config.json leaves out is what transformers makes of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from counterpoint.convert.composite import LANGUAGE, VISION, composite_of
from counterpoint.convert.defaults import CLIP_OF_LLAVA, SOUND_OF_OMNI
from counterpoint.convert.known import KNOWN
from counterpoint.layers.attention.spec import RopeScalingConfig
from tests.unit.judge.judge import REASON, quiet

transformers = pytest.importorskip("transformers", reason=REASON)

PUBLISHED = sorted((Path(__file__).parent / "published").glob("*.json"))


def default_of(config: Any, key: str) -> Any:
    """transformers' value of a key, as JSON has it."""
    value = config.rope_parameters["rope_theta"] if key == "rope_theta" else getattr(config, key)
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("kind", [kind for kind, keys in KNOWN.items() if keys.defaults])
def test_every_default_is_transformers_own(kind: str) -> None:
    quiet()
    config = transformers.CONFIG_MAPPING[kind]()
    follows = {"num_key_value_heads": "num_attention_heads"}
    for key, value in KNOWN[kind].defaults.items():
        if value is not None:
            assert default_of(config, key) == value, key
        elif key in follows:
            assert default_of(config, key) == getattr(config, follows[key])
        else:
            assert key == "head_dim"
            assert config.to_dict().get(key, None) in (None, config.hidden_size // config.num_attention_heads)


def test_sections_that_are_left_out_are_transformers_own() -> None:
    quiet()
    llava = transformers.LlavaConfig().vision_config
    assert {key: getattr(llava, key) for key in CLIP_OF_LLAVA} == CLIP_OF_LLAVA
    omni = transformers.CONFIG_MAPPING["nemotron_h_omni"](audio_config={}).audio_config
    assert {key: getattr(omni, key) for key in SOUND_OF_OMNI} == SOUND_OF_OMNI


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_file_is_read_as_transformers_fills_it_in(path: Path) -> None:
    quiet()
    content = json.loads(path.read_text())
    kept = {key: value for key, value in content.items() if key != "model_type"}
    filled = transformers.CONFIG_MAPPING[content["model_type"]](**kept).to_json_string(use_diff=False)
    found, expected = composite_of(content), composite_of(json.loads(filled))
    assert {n: m.model for n, m in found.modules.items()} == {n: m.model for n, m in expected.modules.items()}


def test_published_files_have_the_values_of_their_models() -> None:
    read = {path.stem: composite_of(json.loads(path.read_text())).modules for path in PUBLISHED}
    llama, llava, qwen = (
        read[n][LANGUAGE].model.section for n in ("llama3_rope", "llava_defaults_left_out", "qwen2_5_vl_flat")
    )
    assert llama.rope_scaling == RopeScalingConfig(
        factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_positions=8192
    )
    assert (llava.hidden, llava.heads, llava.ffn, llava.vocab) == (4096, 32, 11008, 32064)
    assert (qwen.rope_sections, qwen.rope_theta, qwen.hidden) == ((16, 24, 24), 1e6, 3584)
    gemma = read["gemma3_27b_text"][LANGUAGE].model.section
    assert (gemma.pattern.count("W"), gemma.pattern.count("*"), gemma.layers["W"].window) == (52, 10, 1024)
    assert (gemma.rope_theta, gemma.rope_scaling.factor, gemma.layers["W"].rope_theta) == (1e6, 8.0, 1e4)
    assert (gemma.score_scale, gemma.embedding_scale, gemma.tied) == (168**-0.5, 5376**0.5, True)
    siglip = read["siglip_sections_empty"][VISION].model.section
    assert (siglip.hidden, siglip.patch, siglip.positions) == (768, 16, 14)
