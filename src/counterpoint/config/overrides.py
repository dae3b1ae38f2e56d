"""`key.path=value` arguments, laid over the keys of a file."""

from collections.abc import Sequence
from typing import Any

import yaml

from counterpoint.config.keys import is_known, known_keys
from counterpoint.config.megatron import megatron_hint
from counterpoint.config.yaml_text import parse_yaml
from counterpoint.section.problem import Problem, show


def apply_overrides(data: dict[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], list[Problem]]:
    """The data with every `key.path=value` set, later ones winning, and what is wrong with the arguments.

    Entries of lists are reached by index (`data.train.0.weight=2`); the input is left as it is.
    """
    problems: list[Problem] = []
    for override in overrides:
        path, equals, text = override.partition("=")
        hint = megatron_hint(override)
        if hint is not None and not is_known(path, known_keys()):
            problems.append(Problem(override, "a Megatron name", "a key of ours", hint))
        elif not equals or not all(path.split(".")):
            problems.append(
                Problem(override, "no key with a value", "key.path=value", "write it like training.steps=100")
            )
        else:
            try:
                data = with_key(data, path, _value(text))
            except yaml.YAMLError:
                problems.append(Problem(path, show(text), "a YAML value", "quote what YAML would read as syntax"))
            except LookupError as error:
                problems.append(Problem(path, str(error.args[0]), "the path of a key", "correct the path"))
    return data, problems


def with_key(data: Any, path: str, value: Any) -> Any:
    """A copy of plain data with the value at a dotted path set; raises LookupError with what is in the way."""
    return _replaced(data, path.split("."), value)


def _value(text: str) -> Any:
    """The YAML value of an argument; it has no anchors, so a star in front (`pattern=*-*-`) begins text."""
    return text if text.startswith("*") else parse_yaml(text)


def _replaced(node: Any, path: Sequence[str], value: Any) -> Any:
    """A copy of a tree with the value at a path replaced; raises LookupError with what is in the way."""
    if not path:
        return value
    head, *rest = path
    if node is None or isinstance(node, dict):
        children = node or {}
        return {**children, head: _replaced(children.get(head), rest, value)}
    if isinstance(node, list):
        if not head.isdigit() or int(head) >= len(node):
            raise LookupError(f"{show(head)} as an index of a list of {len(node)}")
        index = int(head)
        return [*node[:index], _replaced(node[index], rest, value), *node[index + 1 :]]
    raise LookupError(f"{show(head)} below the plain value {show(node)}")
