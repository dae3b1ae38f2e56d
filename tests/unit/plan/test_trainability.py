"""Which parameters are trained follows from names alone."""

import pytest

from counterpoint.errors import ConfigError
from counterpoint.families import facts_of
from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.families.vit.spec import VitConfig
from counterpoint.kinds.family import Ends, Model
from counterpoint.layers.moe.spec import MoeConfig
from counterpoint.modalities.images.spec import ImageConfig
from counterpoint.plan.trainability import Train, check_groups, is_trained, trained_parts
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


@pytest.mark.parametrize(
    ("train", "patterns", "sentence"),
    [
        ("all", ("projecter.linear.weight",),
         "at.optimizer.groups.0.match: got 'projecter.linear.weight', which fits no trained parameter of the module, "
         "expected a pattern of names like 'projector.linear.weight'; correct it or remove it"),
        (("layers.1.*",), ("projector.*", ), "which fits no trained parameter of the module"),
        ("all", ("*norm*", "norm.bias"),
         "at.optimizer.groups.1.match: got 'norm.bias', whose parameters are all in groups before it, expected a "
         "parameter that is in no group before it; put it first or remove it"),
        ("none", ("*",),
         "at.optimizer.groups.0.match: got '*', expected no group, because nothing of the module is trained; leave it "
         "out or change at.train"),
    ],
    ids=str,
)  # fmt: skip
def test_a_group_without_a_trained_parameter_is_refused(train: Train, patterns: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_groups("at.optimizer.groups", facts_of(VIT), train, patterns)
    assert sentence in str(caught.value)


def test_groups_with_trained_parameters_are_accepted() -> None:
    check_groups("at.optimizer.groups", facts_of(VIT), "all", ("norm.bias", "*norm*", "projector.*", "*"))
    check_groups("at.optimizer.groups", facts_of(VIT), "none", ())
