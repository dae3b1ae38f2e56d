"""Keys set in a text: the data are those that overrides would make, and all other characters stay."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.config.edit_text import edited
from counterpoint.config.overrides import with_key
from counterpoint.config.yaml_text import parse_yaml, to_yaml

ROOT = Path(__file__).parents[3]
CONFIGS = sorted([*(ROOT / "examples").glob("*.yaml"), *(ROOT / "recipes").glob("*.yaml")])
KEYS = {
    "world.size": 16,
    "modules.language.layout.ranks": "0-15",
    "modules.language.layout.expert.ep": 2,
    "modules.language.layout.expert.etp": 1,
    "modules.language.recompute": ["norms", "activations"],
    "schedule.kind": "zero_bubble",
    "schedule.buffer": None,
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_comments_of_configs_stay(path: Path) -> None:
    text = path.read_text()
    made, keeps_comments = edited(text, KEYS)
    assert keeps_comments
    expected = parse_yaml(text)
    for key, value in KEYS.items():
        expected = with_key(expected, key, value)
    assert parse_yaml(made) == expected
    comments = [line[line.index("#") :] for line in text.splitlines() if line.startswith("#") or " # " in line]
    assert all(comment in made for comment in comments)


def test_only_the_lines_of_the_keys_change() -> None:
    text = "# head\na: {b: 1}  # of b\nc:\n  d: 2    # of d\n\n  # before e\n  e: [1,\n      2]\nf: x\n"
    made, keeps_comments = edited(text, {"a.b": 3, "a.g": "y", "c.h": True, "c.e": [4], "i.j.k": 5, "i.j.l": None})
    assert keeps_comments
    assert made == (
        "# head\na: {b: 3, g: y}  # of b\nc:\n  d: 2    # of d\n\n  # before e\n  e: [4]\n  h: true\nf: x\n"
        "i: {j: {k: 5, l: null}}\n"
    )


def test_a_list_in_lines_gives_way_to_its_new_value_alone() -> None:
    made, keeps_comments = edited("a:\n- 1  # one\n- 2  # two\n# of b\nb: 3\n", {"a": [7]})
    assert (made, keeps_comments) == ("a: [7]  # two\n# of b\nb: 3\n", True)
    assert parse_yaml(made) == {"a": [7], "b": 3}


def test_a_text_with_aliases_is_written_anew() -> None:
    made, keeps_comments = edited("# head\na: &x {b: 1}\nc: *x\n", {"c.b": 2})
    assert not keeps_comments
    assert parse_yaml(made) == {"a": {"b": 1}, "c": {"b": 2}}


_NAMES = st.sampled_from("abcd")
_LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["x", "a: b", "#", "[", "yes", ""])
_DATA = st.recursive(
    _LEAVES, lambda inner: st.dictionaries(_NAMES, inner, max_size=3) | st.lists(inner, max_size=2), max_leaves=8
)
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map(".".join)


@settings(deadline=None)
@given(st.dictionaries(_NAMES, _DATA, min_size=1), st.dictionaries(_PATHS, _DATA, max_size=3))
def test_the_data_are_those_that_overrides_make(data: dict[str, Any], keys: dict[str, Any]) -> None:
    expected: Any = data
    try:
        for key, value in keys.items():
            expected = with_key(expected, key, value)
    except LookupError:
        return
    assert parse_yaml(edited(to_yaml(data), keys)[0]) == expected
