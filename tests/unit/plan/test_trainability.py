"""Which parameters are trained follows from names alone."""

import pytest

from counterpoint.errors import ConfigError
from counterpoint.families import facts_of
from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.families.vit.spec import VitConfig
from counterpoint.kinds.family import Ends, Model
from counterpoint.layers.moe.spec import MoeConfig
from counterpoint.modalities.images.spec import ImageConfig
from counterpoint.plan.trainability import Train, is_trained, trained_parts
from counterpoint.projectors.linear.spec import LinearProjectorConfig

VIT = Model(
    VitConfig(
        kind="vit", layers=3, hidden=8, heads=2, ffn=12, patch=2, positions=4, image=ImageConfig(max_patches=16),
        projector=LinearProjectorConfig(kind="linear"),
    ),
    Ends(leaving=6),
)  # fmt: skip
DECODER = Model(
    DecoderConfig(
        kind="decoder", pattern="*E", hidden=8, heads=2, vocab=11, tied=True,
        moe=MoeConfig(experts=4, top_k=2, ffn=6),
    ),
    Ends(vocab=11),
)  # fmt: skip


def test_a_word_trains_all_or_none() -> None:
    facts = facts_of(VIT)
    assert [part.elements for part in trained_parts("vision", facts, "all")] == [p.parameters for p in facts.parts]
    assert not any(part.is_trained or part.elements for part in trained_parts("vision", facts, "none"))
    assert trained_parts("vision", facts, ()) == trained_parts("vision", facts, "none")


@pytest.mark.parametrize(
    ("train", "elements"),
    [
        (("projector.*",), [0, 0, 0, 0, 0, 8 * 6 + 6]),
        (("layers.[12].attention_norm.*", "norm.bias"), [0, 0, 16, 16, 8, 0]),
        (("*.bias", "projector.linear.weight"), [8, 68, 68, 68, 8, 54]),
    ],
)
def test_patterns_train_what_they_fit(train: Train, elements: list[int]) -> None:
    assert [part.elements for part in trained_parts("vision", facts_of(VIT), train)] == elements


def test_a_tied_head_is_trained_with_its_embedding_only() -> None:
    parts = trained_parts("language", facts_of(DECODER), ("embed.*", "*router*"))
    assert [part.is_trained for part in parts] == [True, False, True, False, False]


def test_patterns_tell_capitals_and_whole_names() -> None:
    assert is_trained("layers.1.mlp.up.weight", ("*.mlp.*",))
    assert not is_trained("layers.1.mlp.up.weight", ("mlp", "*.MLP.*"))


def test_a_pattern_that_fits_nothing_is_refused_with_the_nearest_name() -> None:
    expected = r"modules\.vision\.train\.1: got 'projecter\.linear\.bias', which fits no .* 'projector\.linear\.bias'"
    with pytest.raises(ConfigError, match=expected):
        trained_parts("vision", facts_of(VIT), ("norm.*", "projecter.linear.bias"))
