"""FLOPs of a step, against counts by hand: what is frozen is not counted as trained, nor is what nothing needs."""

from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.plan.plan import Plan
from counterpoint.plan.work import step_flops, works_of
from tests.unit.planned import planned

HIDDEN, FFN, VOCAB, PATCH, ROWS = 8, 12, 11, 2, 5
PAIRS, CAUSAL = 25, 15
QKVO, MLP = 2 * 4 * HIDDEN * HIDDEN, 2 * 2 * HIDDEN * FFN
"""FLOPs of a row: products with the four matrices of attention, with the two of an MLP."""
SEEN = 4 * HIDDEN
"""Of a query and a key."""
PATCHES, PROJECTOR, HEAD = 2 * 3 * PATCH**2 * HIDDEN, 2 * 2 * HIDDEN * HIDDEN, 2 * HIDDEN * VOCAB

VIT = {
    "kind": "vit", "layers": 2, "hidden": HIDDEN, "heads": 2, "ffn": FFN, "patch": PATCH, "positions": 4,
    "projector": {"kind": "mlp", "hidden": HIDDEN}, "image": {"size": 8, "max_patches": 16},
}  # fmt: skip
DECODER = {
    "kind": "decoder", "pattern": "*-", "hidden": HIDDEN, "heads": 2, "ffn": FFN, "vocab": VOCAB, "tied": False,
    "activation": "relu2",
}  # fmt: skip


def plan_of(vision: Any, language: Any, *, depths: Any = (), **decoder: Any) -> Plan:
    """A tower and a decoder of which this is trained, on a rank."""
    optimizer = {"lr": 1e-3}
    modules = {
        "vision": {"model": VIT, "train": vision, "optimizer": optimizer, "layout": {"ranks": [0]}},
        "language": {
            "model": DECODER | decoder, "train": language, "optimizer": optimizer, "layout": {"ranks": [0]},
        },
    }  # fmt: skip
    synthetic = {"documents": 4, "text_tokens": {"kind": "constant", "value": 4}}
    return planned(
        load_config({
            "run": {"dir": "x"}, "world": {"size": 1}, "modules": modules,
            "edges": [{"source": "vision", "target": "language", "depths": list(depths)}],
            "data": {"train": [{"synthetic": synthetic}], "sequence_tokens": 32},
            "training": {"steps": 1, "global_batch_samples": 1},
        }),
        None,
    )  # fmt: skip


def counted(plan: Plan, module: str) -> float:
    """What a step computes of an item of `ROWS` rows."""
    return step_flops(works_of(plan)[module], plan.facts[module].load([ROWS]))


def tower(patches: float, layers: float, pairs: float, projector: float) -> float:
    """So many times the forward of each of them."""
    return ROWS * (patches * PATCHES + layers * 2 * (QKVO + MLP) + projector * PROJECTOR) + pairs * 2 * SEEN * PAIRS


def decoder(layers: float, pairs: float, head: float) -> float:
    return ROWS * (layers * (QKVO + MLP) + head * HEAD) + pairs * SEEN * CAUSAL


@pytest.mark.parametrize(
    ("vision", "language", "of_tower", "of_decoder"),
    [
        # Nobody needs the gradients of pixels; between rows two products go back for one.
        ("all", "all", tower(2, 3, 3, 3), decoder(3, 3, 3)),
        # A frozen tower is forward alone, and words need no gradient but their own.
        ("none", "all", tower(1, 1, 1, 1), decoder(3, 3, 3)),
        # Gradients pass through a frozen decoder to the tower.
        ("all", "none", tower(2, 3, 3, 3), decoder(2, 3, 2)),
        # The projector alone: its second product sends gradients to its first, which sends none on.
        (["projector.*"], "none", tower(1, 1, 1, 2.5), decoder(2, 3, 2)),
        (["projector.mlp.down.*"], "none", tower(1, 1, 1, 1.5), decoder(2, 3, 2)),
        ("none", ["head.*"], tower(1, 1, 1, 1), decoder(1, 1, 2)),
        # Both modules are frozen but for the last layer's MLP, behind which lies the head.
        ("none", ["layers.1.mlp.down.weight"], tower(1, 1, 1, 1), ROWS * (QKVO + MLP * 1.5 + 2 * HEAD) + SEEN * CAUSAL),
        ("none", ["layers.1.mlp.up.weight"], tower(1, 1, 1, 1), ROWS * (QKVO + MLP * 2 + 2 * HEAD) + SEEN * CAUSAL),
        # The first layer's queries: the product behind them, the pairs, and all that follows.
        ("none", ["layers.0.attention.q.weight"], tower(1, 1, 1, 1),
         ROWS * (QKVO * 1.5 + 2 * MLP + 2 * HEAD) + 3 * SEEN * CAUSAL),
        ("none", ["layers.0.attention.o.weight"], tower(1, 1, 1, 1),
         ROWS * (QKVO * 1.25 + 2 * MLP + 2 * HEAD) + SEEN * CAUSAL),
        ("none", ["layers.0.norm.weight"], tower(1, 1, 1, 1), decoder(2, 3, 2)),
        ("none", ["layers.0.attention.*", "embed.*"], tower(1, 1, 1, 1),
         ROWS * (3 * QKVO + 2 * MLP + 2 * HEAD) + 3 * SEEN * CAUSAL),
    ],
)  # fmt: skip
def test_what_is_computed_is_counted(vision: Any, language: Any, of_tower: float, of_decoder: float) -> None:
    plan = plan_of(vision, language)
    assert (counted(plan, "vision"), counted(plan, "language")) == (of_tower, of_decoder)


def test_a_tied_head_is_trained_as_its_words_are() -> None:
    assert counted(plan_of("none", "all", tied=True), "language") == decoder(3, 3, 3)
    assert counted(plan_of("all", "none", tied=True), "language") == decoder(2, 3, 2)
    assert counted(plan_of("none", ["layers.1.norm.weight"], tied=True), "language") == (
        ROWS * (QKVO + 2 * MLP + 2 * HEAD) + SEEN * CAUSAL
    )


def test_nothing_is_computed_for_a_norm_behind_its_products_but_what_lies_after_it() -> None:
    last, first = (plan_of("none", [f"layers.{n}.post_norm.weight"], post_norm=True) for n in (1, 0))
    assert counted(last, "language") == ROWS * (QKVO + MLP + 2 * HEAD) + SEEN * CAUSAL
    assert counted(first, "language") == ROWS * (QKVO + 2 * MLP + 2 * HEAD) + SEEN * CAUSAL


def test_features_of_a_depth_carry_gradients_to_the_layers_behind_it() -> None:
    depths = [{"after": 0, "into": 0}]
    plan = plan_of(["taps.0.*"], "none", depths=depths)
    tap = PROJECTOR
    # The projector of the last layer is frozen and nothing before it is trained.
    assert counted(plan, "vision") == tower(1, 1, 1, 1) + 2.5 * ROWS * tap
    assert counted(plan, "language") == ROWS * (QKVO + 2 * MLP + 2 * HEAD) + SEEN * CAUSAL
