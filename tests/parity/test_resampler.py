# ruff: noqa: E501 (a table reads best with a case to a line)
"""A projector whose queries leave in the place of an item's rows equals one plain process in layouts of all kinds."""

from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.errors import ConfigError
from counterpoint.setup.run import prepare_run
from counterpoint.verify.case import verify_task
from counterpoint.verify.command import as_verified, run_case
from counterpoint.verify.draw import choose
from counterpoint.verify.pool import Pool
from tests.parity.brought import brought_config, verify_brought_task
from tests.parity.encoders import LAYOUTS as TOWER_LAYOUTS
from tests.parity.encoders import SHAPE
from tests.parity.layouts import LAYOUTS, TINY, override
from tests.parity.often import often
from tests.parity.speech import SPEECH, SPEECHES
from tests.parity.test_conformer import CONFORMER
from tests.parity.test_given_features import GIVEN
from tests.parity.test_given_features import LAYOUTS as GIVEN_LAYOUTS
from tests.parity.test_named_layouts import assert_equal

RESAMPLER = {"kind": "resampler", "queries": 3, "hidden": 24, "heads": 12, "ffn": 36}
"""Images and clips have fewer merged rows than that, as many, and more."""

VISION, AUDIO = {"modules.vision.model.projector": RESAMPLER}, {"modules.audio.model.projector": RESAMPLER}
BARE = RESAMPLER | {"norm": "rms", "bias": False, "queries": 5}
RADIO = SHAPE | {"positions": 6, "prefix": 3, "merge": 2, "projector": BARE}

PAIRS = (
    "dp2_to_tp2", "cp2_encoder", "tp2_pp2_to_dp4", "cp2_tp2_without_sp", "cp2_encoder_of_whole_images",
    "no_sequence_parallel", "dp3_to_dp2", "cp4_encoder_of_one_image", "no_image_at_all", "empty_encoder_shares",
    "one_rank", "packed", "resampled",
)  # fmt: skip
CLIPS = ("tp2", "cp2", "pp2_zero_bubble", "cp2_of_whole_clips", "most_without_clips")

CASES: dict[str, Config] = {
    **{name: override(load_config(TINY), LAYOUTS[name] | VISION) for name in PAIRS if name in LAYOUTS},
    **{
        f"learned rows, {name}": override(load_config(TINY), layout | {"modules.vision.model": RADIO})
        for name, layout in TOWER_LAYOUTS.items()
    },
    **{f"clips, {name}": override(load_config(SPEECH), SPEECHES[name] | VISION | AUDIO) for name in CLIPS},
    **{
        f"conformer, {name}": override(
            load_config(SPEECH), SPEECHES[name] | {"modules.audio.model": CONFORMER | {"projector": RESAMPLER}}
        )
        for name in CLIPS
    },
    **{
        f"features, {name}": override(
            load_config(GIVEN),
            layout | {"modules.given.model.projector": RESAMPLER, "modules.language.model.rope_sections": None},
        )
        for name, layout in GIVEN_LAYOUTS.items()
    },
}


def base() -> Config:
    """tiny.yaml with a resampler, in float64."""
    return as_verified(override(load_config(TINY), VISION), "float64")


@pytest.mark.parametrize("name", often(CASES, 4))
def test_a_resampler_equals_one_process(pool: Pool, name: str) -> None:
    assert_equal(pool.run(verify_task, as_verified(CASES[name], "float64")))


def test_items_have_fewer_rows_than_queries_and_more() -> None:
    plan, _models, corpus = prepare_run(CASES["dp2_to_tp2"])
    batch = plan.batch(0, corpus.packs(0))
    groups = {item.rows_in // 4 for document in batch.documents for item in document.items}
    assert min(groups) < RESAMPLER["queries"] < max(groups)  # type: ignore[operator]
    assert {item.rows for document in batch.documents for item in document.items} == {RESAMPLER["queries"]}


@pytest.mark.parametrize("layout", ["dp2", "tp2_dp2_recomputed"])
def test_behind_an_encoder_that_is_not_ours_it_equals_one_process(pool: Pool, layout: str) -> None:
    config = override(brought_config("test_vit", layout), VISION)
    assert_equal(pool.run(verify_brought_task, config))


@pytest.mark.sweep
def test_24_random_cases_of_a_resampler_equal_one_process(pool: Pool) -> None:
    outcomes = [run_case(pool, case, "float64") for case in choose(base(), 24, 20, 8)]
    assert {o.case.id: o.words for o in outcomes if o.status != "drawn"} == {}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"modules.vision.model.projector.hidden": 25}, r"projector\.hidden: got 25, expected a multiple of .*heads, 12"),
        ({"modules.vision.layout": {"ranks": [0, 1], "cp": 5}}, r"projector\.heads: got 12, expected a multiple of"),
        ({"modules.language.model.rope_sections": [1, 1, 1]}, r"vision\.model\.projector: got 3 queries, expected none, because positions with 3 axes are of places in an item"),
    ],
    ids=["heads", "cp", "positions"],
)  # fmt: skip
def test_what_a_resampler_cannot_do_is_one_sentence(overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        override(base(), overrides)


def test_an_adapter_hands_on_the_rows_that_it_is_given() -> None:
    tree = base().resolved()
    adapter = {"kind": "adapter", "layers": 1, "hidden": 24, "heads": 12, "ffn": 24, "projector": RESAMPLER}
    tree["modules"]["adapter"] = {"model": adapter, "layout": {"ranks": [0]}, "optimizer": {"lr": 1e-3}}
    tree["edges"] = [{"source": "vision", "target": "adapter"}, {"source": "adapter", "target": "language"}]
    with pytest.raises(
        ConfigError, match=r"adapter\.model\.projector: got 3 queries, expected none, because rows that"
    ):
        load_config(tree)
