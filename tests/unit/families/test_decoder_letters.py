"""Letters of a decoder's pattern and the layers that they stand for."""

from pathlib import Path
from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.errors import ConfigError
from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.layers.attention.spec import AttentionConfig

HYBRID = Path(__file__).parents[2] / "parity" / "hybrid.yaml"
KEYS: dict[str, Any] = {
    "kind": "decoder", "pattern": "*-ME", "hidden": 12, "heads": 4, "ffn": 10, "vocab": 7,
    "mamba": {"heads": 2, "head_dim": 3, "state": 5}, "moe": {"experts": 3, "top_k": 2, "ffn": 6},
}  # fmt: skip
OTHER: dict[str, dict[str, Any]] = {
    "*": {
        "heads": 2, "kv_heads": 2, "head_dim": 5, "rope_theta": 9.0, "rope_sections": (1, 1, 1), "qk_norm": True,
        "rope_interleaved": True, "rope_scaling": {"factor": 4.0}, "qkv_bias": True, "bias": True, "norm_eps": 0.5,
        "rope_width": 4, "window": 3, "score_scale": 0.5, "post_norm": True,
    },
    "-": {"ffn": 11, "activation": "relu2", "bias": True, "norm_eps": 0.5, "post_norm": True},
    "M": {
        "mamba": {"heads": 4, "head_dim": 6, "groups": 2, "state": 7, "conv": 3, "chunk": 8, "dt_min": 0.5},
        "norm_eps": 0.5, "post_norm": True,
    },
    "E": {
        "moe": {
            "experts": 4, "top_k": 1, "ffn": 8, "shared_ffn": 9, "router": "sigmoid", "normalize": False, "scale": 2.0,
            "bias_rate": 0.5, "balance": 0.5,
        },
        "activation": "relu2", "norm_eps": 0.5, "post_norm": True,
    },
}  # fmt: skip
"""For each letter another value of every key of its layer."""


@pytest.mark.parametrize("letter", OTHER)
def test_every_key_of_a_layer_is_the_decoders(letter: str) -> None:
    before = DecoderConfig.model_validate(KEYS).layer_sections[letter].model_dump()
    after = DecoderConfig.model_validate(KEYS | OTHER[letter]).layer_sections[letter].model_dump()
    assert [key for key in before if before[key] == after[key]] == ["kind"]


def test_a_letter_of_ones_own_has_the_decoders_keys_where_it_names_none() -> None:
    own = {"L": {"kind": "attention", "rope_theta": 5.0}, "W": {"kind": "mlp", "ffn": 3}}
    decoder = DecoderConfig.model_validate(KEYS | {"pattern": "*L-MEW", "layers": own, "norm_eps": 0.5})
    plain, other = decoder.layer_sections["*"], decoder.layer_sections["L"]
    assert isinstance(plain, AttentionConfig)
    assert other == plain.model_copy(update={"rope_theta": 5.0})
    assert decoder.layer_sections["W"] == decoder.layer_sections["-"].model_copy(update={"ffn": 3})
    assert DecoderConfig.model_validate(decoder.model_dump()) == decoder


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pattern": "*Q"}, r"model.pattern: got .*, expected a letter of \*, -, M and E"),
        ({"layers": {"M": {"kind": "mlp", "ffn": 4}}}, "layers.M: got .*, expected another letter"),
        ({"layers": {"L": {"kind": "mlp", "ffn": 4}}}, "layers.L: got .*, expected a letter of .*pattern"),
        ({"pattern": "*L", "layers": {"L": {"kind": "mlpp"}}}, 'layers.L.kind: got "mlpp".*did you mean mlp?'),
        (
            {
                "pattern": "*L",
                "layers": {"L": {"kind": "attention", "head_dim": 6, "rope_theta": 9.0, "rope_sections": [1, 1, 1]}},
            },
            "layers.L: got positions with 3 coordinates, expected 1, as .*model.rope_sections says",
        ),
        (
            {"pattern": "*L", "layers": {"L": {"kind": "mlp", "fn": 4}}},
            "layers.L.fn: got an unknown key.* ffn",
        ),
    ],
)
def test_letters_and_layers_belong_together(changes: dict[str, Any], sentence: str) -> None:
    data = load_config(HYBRID).resolved()
    data["modules"]["language"]["model"] |= changes
    with pytest.raises(ConfigError, match=sentence):
        load_config(data)
