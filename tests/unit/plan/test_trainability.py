"""Which parameters are trained follows from names alone."""

import pytest

from counterpoint.errors import ConfigError
from counterpoint.plan.model_facts import facts_of
from counterpoint.plan.sizes import DecoderSizes, MoeSizes, ProjectorSizes, VitSizes
from counterpoint.plan.trainability import Train, is_trained, trained_parts

LINEAR = ProjectorSizes(kind="linear")
VIT = VitSizes(layers=3, hidden=8, heads=2, ffn=12, patch=2, out=6, positions=4, projector=LINEAR)
DECODER = DecoderSizes(
    pattern="*E", hidden=8, heads=2, kv_heads=2, head_dim=4, ffn=0, vocab=11, tied=True,
    moe=MoeSizes(experts=4, top_k=2, ffn=6),
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
