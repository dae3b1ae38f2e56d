"""A set-up opens the tokenizer once, whoever needs it: a model's vocabulary, the plan, the data."""

from pathlib import Path
from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.setup.run import build_plan, prepare_run


@pytest.mark.parametrize("vocab", ["tokenizer", 300])
def test_what_a_run_prepares_opens_it_once(settings: dict[str, Any], openings: list[Path], vocab: object) -> None:
    settings["modules"]["language"]["model"]["vocab"] = vocab
    prepare_run(load_config(settings))
    assert openings == [Path(settings["data"]["tokenizer"])]


def test_a_plan_opens_it_where_a_model_asks(settings: dict[str, Any], openings: list[Path]) -> None:
    build_plan(load_config(settings))
    assert len(openings) == 1
    settings["modules"]["language"]["model"]["vocab"] = 300
    build_plan(load_config(settings))
    assert len(openings) == 1
