"""Keys in which two models differ so that values of the one are wrong in the other."""

from typing import Any

import pytest

from counterpoint.convert.differences import differences, free_keys
from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.kinds.family import Ends, Model

NAMES = ("embed.weight", "layers.0.norm.weight", "layers.1.norm.weight")


def decoder(pattern: str = "LX", **layer: Any) -> Model:
    """One layer of attention and one of experts, both under letters of their own."""
    layers = {
        "L": {"kind": "attention", "window": 4, **layer},
        "X": {"kind": "moe", "experts": 4, "top_k": 1, "ffn": 8, "balance": 0.25 if layer else 0.0},
    }
    keys = {"kind": "decoder", "pattern": pattern, "hidden": 8, "heads": 2, "vocab": 7, "layers": layers}
    return Model(DecoderConfig.model_validate(keys), Ends(vocab=7))


@pytest.mark.parametrize(
    ("layer", "found"),
    [
        ({"kv_heads": 2, "head_dim": 4}, []),
        ({"window": 5}, [("layers.L.window", 5, 4)]),
        ({"rope_theta": 5.0, "qk_norm": True}, [("layers.L.rope_theta", 5.0, 1e4), ("layers.L.qk_norm", True, False)]),
    ],
)
def test_layers_of_letters_differ_in_what_they_mean(layer: dict[str, Any], found: list[tuple[str, Any, Any]]) -> None:
    """Not in keys that are left out or say how to train, though both have the same layers."""
    free = free_keys(NAMES, NAMES)
    assert "layers" in free
    assert sorted(differences(decoder(**layer), decoder(), free)) == sorted(found)


@pytest.mark.parametrize(
    ("ours", "names", "found"),
    [
        ({"vocab": "tokenizer"}, NAMES, []),
        ({"vocab": 9}, NAMES, [("vocab", 9, 7)]),
        ({"vocab": 9}, (*NAMES[1:], "head.weight"), [("vocab", 9, 7)]),
        ({"vocab": 9}, NAMES[1:], []),
    ],
)
def test_words_are_counted_whoever_counts_them(
    ours: dict[str, Any], names: tuple[str, ...], found: list[tuple[str, Any, Any]]
) -> None:
    """A number and a tokenizer of as many words are one vocabulary; without a table of words it may be any."""
    theirs = decoder()
    section = theirs.section.model_copy(update=ours)
    model = Model(section, Ends(vocab=7 if section.vocab == "tokenizer" else section.vocab))
    free = free_keys(names, names)
    assert list(differences(model, theirs, free)) == found
    assert list(differences(theirs, model, free)) == [(key, one, mine) for key, mine, one in found]
