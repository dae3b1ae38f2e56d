"""Keys set in the text of a config, with its comments and its order left as they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import yaml

from counterpoint.config.overrides import with_key
from counterpoint.config.yaml_text import compose_yaml, parse_yaml, to_flow, to_yaml


def edited(text: str, keys: Mapping[str, Any]) -> tuple[str, bool]:
    """A YAML text in which every `key.path` has its value, and whether its comments are kept.

    A value is written in the place of the one before it, a new key at the end of its section. A text with aliases is
    written anew instead, without comments. Raises yaml.YAMLError.
    """
    data = parse_yaml(text)
    for path, value in keys.items():
        data = with_key(data, path, value)
    made = _spliced(text, keys)
    if made is not None and _reads_as(made, data):
        return made, True
    return to_yaml(data), False


def _reads_as(text: str, data: Any) -> bool:
    try:
        return bool(parse_yaml(text) == data)
    except yaml.YAMLError:
        return False


@final
@dataclass(frozen=True, slots=True)
class _Splice:
    """`text` in the place of what stands from `start` to `end`."""

    start: int
    end: int
    text: str


def _spliced(text: str, keys: Mapping[str, Any]) -> str | None:
    """The text with all keys set; None where splicing cannot do that."""
    root = compose_yaml(text)
    nested = any(inner.startswith(f"{outer}.") for outer in keys for inner in keys)
    if nested or not isinstance(root, yaml.MappingNode):
        return None
    replaced: list[_Splice] = []
    added: dict[int, tuple[yaml.MappingNode, dict[str, Any]]] = {}
    for path, value in keys.items():
        above, node, rest = _descend(root, path.split("."))
        if not rest:
            replaced.append(_replacement(text, above, node, value))
        elif isinstance(node, yaml.MappingNode):
            _place, new = added.setdefault(id(node), (node, {}))
            _set(new, rest, value)
        else:
            return None
    splices = [*replaced, *(_insertion(text, node, new) for node, new in added.values())]
    for splice in sorted(splices, key=lambda each: (each.start, each.end), reverse=True):
        text = text[: splice.start] + splice.text + text[splice.end :]
    return text


def _descend(node: yaml.Node, path: Sequence[str]) -> tuple[yaml.Node, yaml.Node, list[str]]:
    """The key of the deepest node on a path, that node, and what of the path is not there."""
    above = node
    for place, part in enumerate(path):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = next(((key, value) for key, value in pairs if key.value == part), None)
        if found is None:
            return above, node, list(path[place:])
        above, node = found
    return above, node, []


def _replacement(text: str, key: yaml.Node, node: yaml.Node, value: Any) -> _Splice:
    """A value in the place of another; on the line of its key where the other one has lines of its own."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        return _Splice(text.index(":", key.end_mark.index) + 1, _end(node), f" {to_flow(value)}")
    return _Splice(node.start_mark.index, _end(node), to_flow(value))


def _set(section: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *above, last = path
    for part in above:
        section = section.setdefault(part, {})
    section[last] = value


def _insertion(text: str, node: yaml.MappingNode, new: dict[str, Any]) -> _Splice:
    """New keys at the end of a section, in its own style."""
    pairs = [f"{key}: {to_flow(value)}" for key, value in new.items()]
    if node.flow_style:
        place = _end(node.value[-1][1]) if node.value else node.start_mark.index + 1
        return _Splice(place, place, (", " if node.value else "") + ", ".join(pairs))
    place = _line_end(text, _end(node.value[-1][1]))
    indent = " " * node.value[0][0].start_mark.column
    return _Splice(place, place, "".join(f"\n{indent}{pair}" for pair in pairs))


def _end(node: yaml.Node) -> int:
    """Where a value's own text ends: block collections have what follows them up to the next token."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _line_end(text: str, place: int) -> int:
    """The end of the line of a place, comments included."""
    end = text.find("\n", place)
    return len(text) if end < 0 else end
