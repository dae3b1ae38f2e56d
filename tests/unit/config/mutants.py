"""Configs that somebody got wrong: examples and recipes, changed at random in their text or in their structure."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from counterpoint.check.proof import check_plan
from counterpoint.config.load import load_config
from counterpoint.config.yaml_text import parse_yaml
from counterpoint.errors import InputError
from tests.unit.planned import planned

ROOT = Path(__file__).parents[3]
SOURCES = sorted(
    path
    for folder in ("examples", "recipes", "recipes/tiny", "tests/parity")
    for path in (ROOT / folder).glob("*.yaml")
)
VOCABULARY = 512

_VALUES: tuple[str, ...] = (
    "null", "true", "0", "-1", "1", "3", "2147483648", "9223372036854775807", "99999999999999999999999", "1e400",
    "-1e-400", ".nan", ".inf", "1e308", "0.5", "''", '"\\0"', '"\\ud800"', "yes", "~", "[]", "{}", "[[]]", "[null]",
    "{a: 1}", "[1, two]", "{1: 2}", "{null: 3}", "*-*-", "'**'", "x y", "../..", "&a [*a]", "{? [1] : 2}", "!!int x",
    "2001-01-99", "{kind: vit}", "{kind: decoder}", "{kind: []}", "1_000", "0x10", "010", "[0, 0]", "[1000000000]",
    "\xe9", "\U0001f600", "[" * 60 + "]" * 60, "'" + "x" * 5000 + "'",
)  # fmt: skip
_BITS = (
    "\t", "\n", ": ", "- ", "{", "}", "[", "]", "#", "&", "*", "!", "|", ">", "'", '"', "%", "@", "\0", "\x1b",
    "\ufeff", ",", "?",
)  # fmt: skip


def mutants(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """So many mutants, a name and a text each; mutant k is a pure function of seed and k."""
    texts = [path.read_text() for path in SOURCES]
    for number in range(count):
        generator = random.Random(f"{seed}/{number}")
        which = generator.randrange(len(texts))
        change = generator.choice(_CHANGES)
        text = texts[which]
        for _again in range(generator.choice([1, 1, 1, 2, 4])):
            text = change(text, generator)
        yield f"{number} {SOURCES[which].stem} {change.__name__.removeprefix('_')}", text


def outcome(text: str, folder: Path) -> str:
    """`planned` or the type of the error that a config ends with; any but an InputError is raised."""
    file = folder / "config.yaml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        plan = planned(load_config(file), VOCABULARY)
        if plan.placement.world_size <= _PROVED_UP_TO:
            check_plan(plan)
    except InputError as error:
        is_told = 0 < len(str(error)) < _LONGEST_MESSAGE
        return type(error).__name__ if is_told else f"{type(error).__name__} of {len(str(error))} characters"
    return "planned"


_PROVED_UP_TO = 8
_LONGEST_MESSAGE = 20_000
"""Characters, of an error with many problems."""


def _value(text: str, generator: random.Random) -> str:
    """The value of a line is another."""
    lines = text.splitlines()
    places = [i for i, line in enumerate(lines) if ": " in line and not line.lstrip().startswith("#")]
    if not places:
        return text
    place = generator.choice(places)
    lines[place] = lines[place].split(": ")[0] + ": " + generator.choice(_VALUES)
    return "\n".join(lines)


def _flow(text: str, generator: random.Random) -> str:
    """A number or a word anywhere is another."""
    words = text.split(" ")
    places = [i for i, word in enumerate(words) if word.strip(",}]\n").replace(".", "").replace("-", "").isalnum()]
    place = generator.choice(places)
    words[place] = words[place].replace(words[place].strip(",}]\n"), generator.choice(_VALUES), 1)
    return " ".join(words)


def _bit(text: str, generator: random.Random) -> str:
    """A character more."""
    place = generator.randrange(len(text) + 1)
    return text[:place] + generator.choice(_BITS) + text[place:]


def _lost(text: str, generator: random.Random) -> str:
    """A piece less."""
    place = generator.randrange(len(text))
    return text[:place] + text[place + generator.choice([1, 2, 5, 20, 100]) :]


def _line(text: str, generator: random.Random) -> str:
    """A line is lost, twice there, elsewhere, or further in."""
    lines = text.splitlines()
    place, other = generator.randrange(len(lines)), generator.randrange(len(lines))
    match generator.randrange(4):
        case 0:
            del lines[place]
        case 1:
            lines.insert(other, lines[place])
        case 2:
            lines[place], lines[other] = lines[other], lines[place]
        case _:
            lines[place] = "  " + lines[place]
    return "\n".join(lines)


def _tree(text: str, generator: random.Random) -> str:
    """A node of the tree is another, gone, under another name, or a copy of one elsewhere."""
    tree: Any = parse_yaml_or_none(text)
    if not isinstance(tree, dict):
        return text
    nodes = list(_nodes(tree))
    parent, key = generator.choice(nodes)
    match generator.randrange(5):
        case 0:
            del parent[key]
        case 1:
            other, place = generator.choice(nodes)
            parent[key] = _get(other, place)
        case 2 if isinstance(parent, dict):
            parent[generator.choice([f"{key}x", 3, None, True, "", "kind", "a.b", "*"])] = parent.pop(key)
        case 3:
            parent[key] = [_get(parent, key)] if generator.random() < 0.5 else {"kind": _get(parent, key)}
        case _:
            parent[key] = generator.choice(
                [None, True, -1, 0, 7, 2**40, 0.3, float("inf"), "x", "", [], {}, [0], [[1]]]
            )
    try:
        return yaml.safe_dump(tree)
    except (RecursionError, yaml.YAMLError):
        return text


def parse_yaml_or_none(text: str) -> Any:
    try:
        return parse_yaml(text)
    except (yaml.YAMLError, ValueError):
        return None


def _nodes(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _nodes(value)


def _get(parent: Any, key: Any) -> Any:
    try:
        return parent[key]
    except LookupError:
        return None


_CHANGES: tuple[Callable[[str, random.Random], str], ...] = (_value, _flow, _bit, _lost, _line, _tree, _tree)
