"""Names of tensors in every spelling, and what a folder is by the tensors that are found in it."""

import pytest

from counterpoint.convert.composite import LANGUAGE, VISION, composite_of
from counterpoint.convert.found import as_found, names_found
from counterpoint.convert.spelling import below, moved, spelled
from counterpoint.errors import CheckpointError
from tests.unit.judge.whole_configs import FOLDERS

LAYER = "layers.0.self_attn.q_proj.weight"


def test_the_longest_beginning_is_replaced() -> None:
    spelling = {"a.": "x.", "a.b.": "y.", "c": "z"}
    assert [spelled(name, spelling) for name in ("a.1", "a.b.1", "c1", "b.a.1")] == ["x.1", "y.1", "z1", "b.a.1"]


def test_parts_move_and_lie_below_prefixes() -> None:
    inner = moved(("layers.",), "model.", "", "model.")
    assert inner == {"layers.": "model.layers.", "model.layers.": "model.layers."}
    assert below("t.", inner, "m.t.")["m.t.layers."] == "t.model.layers."
    assert spelled("m.t.more", below("t.", inner, "m.t.")) == "t.more"


@pytest.mark.parametrize(
    ("name", "links", "found"),
    [
        ("llava", "language_model.model.", ("language_model.", "model.language_model.", "model.language_model.model.",
                                            "language_model.model.model.")),
        ("qwen2_5_vl", "model.", ("model.language_model.", "language_model.", "")),
        ("qwen3_vl", "model.language_model.", ("language_model.",)),
    ],
)  # fmt: skip
def test_a_decoder_in_a_composite_model_has_many_names(name: str, links: str, found: tuple[str, ...]) -> None:
    whole = composite_of(FOLDERS[name])
    assert {whole.spell(f"{prefix}{LAYER}") for prefix in (links, *found)} == {f"{links}{LAYER}"}


def test_two_names_of_one_tensor_are_refused() -> None:
    whole = composite_of(FOLDERS["llava"])
    with pytest.raises(CheckpointError, match=r"has lm_head.weight and language_model.lm_head.weight, which are two"):
        names_found(whole, ["lm_head.weight", "language_model.lm_head.weight"], "It")


def test_a_tensor_that_is_there_is_not_filled() -> None:
    whole = composite_of(FOLDERS["radio"])
    before = whole.modules[VISION].links
    found = {name for link in before for name in link.theirs}
    scale = "radio_model.model.blocks.1.layer_scale2.lambda1"
    for names, values in ((found, 0), (found - {scale}, 1)):
        links = as_found(whole, names, lambda _one, _other: True).modules[VISION].links
        assert sum(not link.theirs for link in links) == values
        assert {name for link in links for name in link.ours} == {
            n for m in whole.modules[VISION].links for n in m.ours
        }


def test_a_head_that_differs_is_not_tied() -> None:
    whole = composite_of({**FOLDERS["llava"], "tie_word_embeddings": True})
    pair = {"language_model.lm_head.weight", "language_model.model.embed_tokens.weight"}
    for are_equal in (True, False):
        stored = as_found(whole, pair, lambda _one, _other, same=are_equal: same).modules[LANGUAGE]  # type: ignore[misc]
        assert stored.model.section.tied is are_equal
        assert (stored.unequal is None) is are_equal
