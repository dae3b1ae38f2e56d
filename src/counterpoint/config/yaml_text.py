"""YAML as the user means it: `1e-3` is a number, `yes` and dates are text, a key given twice is an error.

What a text can ask of memory, stack and time is bounded here, before anything is built of it.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml

from counterpoint.section.section import LARGEST_INTEGER

_DECIMAL_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)$")
_DECIMAL_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$")
_TRUTH = re.compile(r"(true|True|TRUE|false|False|FALSE)$")
_NULL = re.compile(r"(~|null|Null|NULL|)$")

_RESOLVERS = (
    ("tag:yaml.org,2002:bool", _TRUTH, "tTfF"),
    ("tag:yaml.org,2002:int", _DECIMAL_INTEGER, "-+0123456789"),
    ("tag:yaml.org,2002:float", _DECIMAL_NUMBER, "-+.0123456789"),
    ("tag:yaml.org,2002:null", _NULL, ("~", "n", "N", "")),
)
"""Tag, pattern and first characters of YAML 1.2's core schema; 1.1 reads `1e-3` as text and `010` as 8."""

_Table = dict[str, list[tuple[str, re.Pattern[str]]]]


def _with_resolvers(table: _Table) -> _Table:
    """A copy of PyYAML's table, first character -> candidates, with the resolvers above after its own."""
    longer = {first: list(candidates) for first, candidates in table.items()}
    for tag, pattern, firsts in _RESOLVERS:
        for first in firsts:
            longer.setdefault(first, []).append((tag, pattern))
    return longer


DEEPEST = 40
"""Levels of sections and lists within each other."""

MOST_VALUES = 100_000
"""Values of a text, each alias counted as what it stands for."""

LONGEST_TEXT = 4_000_000
"""Characters of a text."""


class _Loader(yaml.SafeLoader):
    """The safe loader with the resolvers above, unique keys that are no lists or sections, and these bounds."""

    yaml_implicit_resolvers = _with_resolvers({})

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._values = 0
        self._values_of: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        mark, before, is_alias = event.start_mark, self._values, isinstance(event, yaml.AliasEvent)
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag not in (None, "!"):
            raise _refusal(f"the tag {event.tag}", mark)
        self._depth += 1
        if self._depth > DEEPEST:
            raise _refusal(f"more than {DEEPEST} levels within each other", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and is_alias:
            if node not in self._values_of:
                raise _refusal("an alias of what it is in", mark)
            self._values += self._values_of[node]
        elif node is not None:
            self._values += 1
            self._values_of[node] = self._values - before
        if self._values > MOST_VALUES:
            raise _refusal(f"more than {MOST_VALUES} values, aliases written out", mark)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _refusal("a list or a section as a key", key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise _refusal(f"the key {key} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        text = super().construct_scalar(node)
        # Escapes can write what no name of a file may hold, and what no terminal can show.
        if isinstance(text, str) and _UNFIT.search(text):
            raise _refusal("a character that is no text", node.start_mark)
        return text

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        # Python refuses to read thousands of digits, so the length is judged first.
        digits = len(node.value.lstrip("+-0"))
        if digits > len(str(LARGEST_INTEGER)) or abs(int(node.value)) > LARGEST_INTEGER:
            raise _refusal(f"an integer of {digits} digits", node.start_mark)
        return int(node.value)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)

_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def _refusal(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(problem=problem, problem_mark=mark)


class _Dumper(yaml.SafeDumper):
    """The safe dumper, which also quotes text that only our loader would read as a number."""

    yaml_implicit_resolvers = _with_resolvers(yaml.SafeDumper.yaml_implicit_resolvers)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Write equal values out in full."""
        return True


def parse_yaml(text: str) -> Any:
    """The value of a YAML text; raises yaml.YAMLError."""
    if len(text) > LONGEST_TEXT:
        raise yaml.YAMLError(f"more than {LONGEST_TEXT} characters")
    # _Loader descends from SafeLoader, which builds plain data only.
    return yaml.load(text, _Loader)


def to_yaml(data: Any) -> str:
    """Plain data as YAML that `parse_yaml` reads back."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110)


def compose_yaml(text: str) -> yaml.Node | None:
    """The nodes of a YAML text with their places in it; raises yaml.YAMLError."""
    # _Loader descends from SafeLoader; nothing is built of the nodes here.
    return yaml.compose(text, _Loader)


def to_flow(value: Any) -> str:
    """A plain value on one line, as it may stand inside any other."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=True, width=LONGEST_TEXT)
    return text.removesuffix("\n").removesuffix("\n...").removesuffix("\n")
