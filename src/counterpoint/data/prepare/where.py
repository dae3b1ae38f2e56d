"""The expression of `--where`, which chooses rows by their columns: parsed into a few nodes, never evaluated as Python.

    relevance_min >= 3 and source in ("ai2d", "vqav2") and not meta.width < 32

A row without a value at a column has None there: every comparison with None is false but `==`, `!=` and `in`.
"""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

from counterpoint.data.text.shown import show
from counterpoint.errors import DataError
from counterpoint.section.problem import nearest

_LONGEST = 10_000
_HOW = (
    "compare columns with values: \"relevance_min >= 3 and source in ('a', 'b')\", with and, or, not, parentheses and "
    "dots for nested fields"
)
_Value = str | int | float | bool | None | tuple["_Value", ...]
_Read = Callable[[Mapping[str, Any]], Any]
_ORDERED: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: lambda left, right: left < right,
    ast.LtE: lambda left, right: left <= right,
    ast.Gt: lambda left, right: left > right,
    ast.GtE: lambda left, right: left >= right,
}
_NAMES = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


@final
@dataclass(frozen=True)
class Where:
    """A condition on the columns of a row; raises DataError for a text that is none."""

    text: str

    def __post_init__(self) -> None:
        _check = self._tree

    def __getstate__(self) -> str:
        return self.text

    def __setstate__(self, text: str) -> None:
        object.__setattr__(self, "text", text)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names, each once."""
        roots = [_path(node)[0] for node in ast.walk(self._tree) if isinstance(node, ast.Name)]
        return tuple(dict.fromkeys(roots))

    def check(self, columns: Mapping[str, str], place: str = "") -> None:
        """Raise DataError, with the nearest name, for a column that is not there, or not at a place."""
        for name in self.columns:
            if name not in columns:
                alike = nearest(name, columns)
                hint = f"did you mean {alike}?" if alike is not None else f"columns are {', '.join(columns)}."
                raise DataError(f"--where {show(self.text)}: there is no column '{name}'{place}; {hint}")

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is chosen; raises DataError if a value cannot be compared."""
        try:
            return bool(self._test(row))
        except RecursionError:
            raise DataError(f"--where {show(self.text)}: is nested too deeply; write a shorter condition.") from None

    @cached_property
    def _tree(self) -> ast.expr:
        try:
            if len(self.text) > _LONGEST:
                raise ValueError(f"it has more than {_LONGEST} characters")
            tree = ast.parse(self.text.strip(), mode="eval").body
            self._compile(tree)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
            raise DataError(f"--where {show(self.text)}: is no condition ({reason}); {_HOW}.") from None
        return tree

    @cached_property
    def _test(self) -> _Read:
        return self._compile(self._tree)

    def _compile(self, node: ast.expr) -> _Read:
        """A node that is true or false."""
        if isinstance(node, ast.BoolOp):
            parts = [self._compile(value) for value in node.values]
            if isinstance(node.op, ast.And):
                return lambda row: all(part(row) for part in parts)
            return lambda row: any(part(row) for part in parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            inner = self._compile(node.operand)
            return lambda row: not inner(row)
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            pairs = [
                self._compare(left, op, right) for left, op, right in zip(sides, node.ops, sides[1:], strict=False)
            ]
            return lambda row: all(pair(row) for pair in pairs)
        if isinstance(node, ast.Name | ast.Attribute):
            return _reader(_path(node))
        raise ValueError(f"{_shown(node)} is no comparison")

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> _Read:
        first, second = _operand(left), _operand(right)
        if isinstance(op, ast.Eq | ast.Is):
            return lambda row: _equal(first(row), second(row))
        if isinstance(op, ast.NotEq | ast.IsNot):
            return lambda row: not _equal(first(row), second(row))
        if isinstance(op, ast.In):
            return lambda row: self._contains(second(row), first(row))
        if isinstance(op, ast.NotIn):
            return lambda row: not self._contains(second(row), first(row))
        compare, name = _ORDERED[type(op)], _NAMES[type(op)]

        def ordered(row: Mapping[str, Any]) -> bool:
            one, other = first(row), second(row)
            if one is None or other is None:
                return False
            try:
                return bool(compare(one, other))
            except TypeError:
                raise DataError(
                    f"--where '{self.text}': {show(one)} {name} {show(other)} compares values of two kinds; correct "
                    "the condition or the row."
                ) from None

        return ordered

    def _contains(self, values: Any, value: Any) -> bool:
        if values is None:
            return False
        if isinstance(values, str) and isinstance(value, str):
            return value in values
        if isinstance(values, list | tuple):
            return any(_equal(one, value) for one in values)
        raise DataError(f"--where '{self.text}': {show(value)} in {show(values)}, expected a list or a text there.")


def _operand(node: ast.expr) -> _Read:
    """A column or a literal."""
    if isinstance(node, ast.Name | ast.Attribute):
        return _reader(_path(node))
    value = _literal(node)
    return lambda _row: value


def _literal(node: ast.expr) -> _Value:
    try:
        return _checked(ast.literal_eval(node))
    except (ValueError, TypeError):
        raise ValueError(f"{_shown(node)} is neither a column nor a value") from None


def _checked(value: object) -> _Value:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple | set):
        return tuple(_checked(element) for element in value)
    raise ValueError


def _path(node: ast.expr) -> tuple[str, ...]:
    """The names of a column and of the fields in it."""
    fields = []
    while isinstance(node, ast.Attribute):
        fields.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise ValueError(f"{_shown(node)} is no column")
    return (node.id, *reversed(fields))


def _reader(path: tuple[str, ...]) -> _Read:
    def read(row: Mapping[str, Any]) -> Any:
        value: Any = row
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    return read


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    return bool(one == other)


def _shown(node: ast.AST) -> str:
    return show(ast.unparse(node))
