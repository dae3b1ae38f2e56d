"""What bad configs are answered with: the type of the error and its exact sentences."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from counterpoint.check.proof import check_plan
from counterpoint.config.yaml_text import to_yaml
from counterpoint.errors import InputError
from tests.golden.cases import ROOT, load_config
from tests.golden.written import Golden
from tests.unit.config import mutants, test_bad_input
from tests.unit.planned import planned

MUTANTS, SEED = 120, 15
_FILE = "config.yaml"


def bad_texts() -> dict[str, tuple[str, list[str]]]:
    """By name, a config's text and the overrides over it; what is wrong is in the one or the other."""
    return dict(_bad_texts())


def _bad_texts() -> Iterator[tuple[str, tuple[str, list[str]]]]:
    emoji = (ROOT / "examples" / "emoji.yaml").read_text()
    lists = (
        test_bad_input.BAD_VALUES, test_bad_input.MISFITS, test_bad_input.LATER, test_bad_input.BAD_ARGUMENTS,
    )  # fmt: skip
    for one in (one for table in lists for one in table):
        yield one[0], (emoji, [one[0]])
    hybrid: Any = copy.deepcopy(test_bad_input.EMOJI)
    more = {"heads": 24, "kv_heads": 24, "head_dim": 4}
    hybrid["modules"]["language"]["model"] |= test_bad_input.EXPERTS | more
    hybrid["modules"]["language"]["layout"] = {"ranks": [2, 3]}
    for one in test_bad_input.BAD_HYBRIDS:
        yield f"hybrid {one[0]}", (to_yaml(hybrid), [f"modules.language.{one[0]}"])
    for name, text in mutants.mutants(MUTANTS, SEED):
        yield f"mutant {name}", (text, [])


def error_goldens(texts: dict[str, tuple[str, list[str]]]) -> Golden:
    """How each ends; files are written to the working folder, so that sentences name none that differs."""
    return {name: {"said": _said(text, overrides)} for name, (text, overrides) in texts.items()}


def _said(text: str, overrides: list[str]) -> str:
    Path(_FILE).write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        plan = planned(load_config(_FILE, overrides), mutants.VOCABULARY)
        if plan.placement.world_size <= mutants._PROVED_UP_TO:
            check_plan(plan)
    except InputError as error:
        return f"{type(error).__name__} {error.exit_code}: {error}".encode(errors="backslashreplace").decode()
    return "planned"
