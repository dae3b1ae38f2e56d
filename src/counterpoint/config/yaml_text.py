"""YAML as the user means it: `1e-3` is a number, `yes` and dates are text, a key given twice is an error."""

import re
from collections.abc import Hashable
from typing import Any

import yaml

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
    """A copy of PyYAML's table, first character -> candidates, with the resolvers above behind its own."""
    longer = {first: list(candidates) for first, candidates in table.items()}
    for tag, pattern, firsts in _RESOLVERS:
        for first in firsts:
            longer.setdefault(first, []).append((tag, pattern))
    return longer


class _Loader(yaml.SafeLoader):
    """The safe loader with the resolvers above and unique keys."""

    yaml_implicit_resolvers = _with_resolvers({})

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key} is given twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """The safe dumper, which also quotes text that only our loader would read as a number."""

    yaml_implicit_resolvers = _with_resolvers(yaml.SafeDumper.yaml_implicit_resolvers)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Write equal values out in full."""
        return True


def parse_yaml(text: str) -> Any:
    """The value of a YAML text; raises yaml.YAMLError."""
    # _Loader descends from SafeLoader, which builds plain data only.
    return yaml.load(text, _Loader)


def to_yaml(data: Any) -> str:
    """Plain data as YAML that `parse_yaml` reads back."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110)
