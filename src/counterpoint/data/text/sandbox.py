"""Chat templates are programs by strangers: jinja2's sandbox, with what transformers gives templates and limits.

The sandbox keeps attributes and globals of Python out of reach. Limits keep work and memory small: every repetition is
counted, everything that is written is measured, and values can grow only by operations that measure first.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from functools import lru_cache
from types import BuiltinMethodType, MethodType
from typing import Any, NoReturn, TypeVar

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from counterpoint.data.text.limits import (
    MOST_BITS,
    TURN_WORK,
    ExcessError,
    budget_for,
    check_call,
    check_format,
    checked_filter,
    current,
    measure,
)
from counterpoint.errors import DataError

GENERATED, GENERATED_END = "\ufdd5", "\ufdd6"
"""What a rendering has around the inside of {% generation %}: code points that no text may have."""

LONGEST_TEMPLATE = 2**18
"""Characters of a template's source; the longest that are published have a tenth of it."""

_LONG_NUMBER = re.compile(r"\d{3}")
_STRFTIME_LENGTH = 100
_SAFE_FILTERS = frozenset({
    "abs", "attr", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "format",
    "groupby", "indent", "int", "items", "join", "last", "length", "list", "lower", "map", "max", "min", "reject",
    "rejectattr", "replace", "reverse", "round", "safe", "select", "selectattr", "slice", "sort", "string", "title",
    "tojson", "trim", "unique", "upper",
})  # fmt: skip
"""Filters that neither draw at random nor are without a limit here."""

Made = TypeVar("Made")


class _Guard(Extension):
    """The tag {% generation %}, and the checks that the sandbox puts into a template's program."""

    tags = {"generation"}  # noqa: RUF012 jinja2 reads a set of the class

    def parse(self, parser: Parser) -> nodes.Node:
        """{% generation %} ... {% endgeneration %}: what is inside was written by the model."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("generated"), [], [], body).set_lineno(line)

    def generated(self, caller: Callable[[], str]) -> str:
        """The inside of a generation tag between its marks."""
        return f"{GENERATED}{caller()}{GENERATED_END}"

    def turn(self, characters: int) -> str:
        """Count one turn of a loop, which writes so many characters of the template's own."""
        budget = current()
        budget.work(TURN_WORK)
        budget.write(characters)
        return ""

    def made(self, value: Made) -> Made:
        """A list, tuple or mapping that the template made, if it is not too large."""
        measure(value)
        return value

    def joined(self, *values: object) -> str:
        """The operator `~`."""
        current().check(sum(map(measure, values)))
        text = "".join(map(str, values))
        measure(text)
        return text


class _Checks(NodeTransformer):
    """Puts checks into loops, macros and what makes values."""

    def __init__(self, sandbox: "_Sandbox") -> None:
        self._sandbox = sandbox

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 names of nodes
        return self._counted(node)

    visit_Macro = visit_CallBlock = visit_Block = visit_For  # noqa: N815

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return node if not node.items else self._call("made", [node])

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return node if not node.items else self._call("made", [node])

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return node if node.ctx != "load" or not node.items else self._call("made", [node])

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._call("joined", node.nodes)

    def _counted(self, node: Any) -> nodes.Node:
        own = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(self._call("turn", [nodes.Const(own)])).set_lineno(node.lineno))
        return node  # type: ignore[no-any-return]

    def _call(self, name: str, arguments: list[nodes.Expr]) -> nodes.Expr:
        method = nodes.ExtensionAttribute(_Guard.identifier, name)
        return nodes.Call(method, arguments, [], None, None)


class _Sandbox(ImmutableSandboxedEnvironment):
    """The sandbox of jinja2 with limits."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, day: date) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Guard, loopcontrols], finalize=_measured, cache_size=0
        )
        self.filters = {
            name: checked_filter(name, function) for name, function in self.filters.items() if name in _SAFE_FILTERS
        }
        self.filters["tojson"] = checked_filter("tojson", _to_json)
        self.globals = {
            "range": self.globals["range"],
            "dict": _mapping,
            "namespace": _Namespace,
            "raise_exception": _raise,
            "strftime_now": lambda form: _strftime(day, form),
        }

    def _generate(self, source: nodes.Template, *arguments: Any, **named: Any) -> str:
        _Checks(self).visit(source)
        for node in source.find_all(nodes.Node):
            node.set_environment(self)
        return super()._generate(source, *arguments, **named)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call something for a template, after a look at what could come of it."""
        owner = __obj.__self__ if isinstance(__obj, BuiltinMethodType | MethodType) else None
        if not isinstance(owner, _Guard):
            # jinja2 passes the variables of loops and blocks along.
            given = [*args, *(value for name, value in kwargs.items() if name not in ("_loop_vars", "_block_vars"))]
            if isinstance(owner, str | bytes | int | float):
                check_call(__obj.__name__, [owner, *given])
            else:
                measure(given)
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """The method `format` of a text, which jinja2 wraps where it is looked up, with a check before."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        form = wrapped

        def checked(*args: Any, **kwargs: Any) -> str:
            check_call(value.__name__, [value.__self__, *args, *kwargs.values()])
            return form(*args, **kwargs)

        return checked

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """An operation that can make values grow, if the result is not too large."""
        budget = current()
        sizes = measure(left), measure(right)
        is_numbers = isinstance(left, int) and isinstance(right, int)
        if is_numbers and operator in ("*", "**"):
            times = min(abs(right), MOST_BITS + 1) if operator == "**" else 1
            if left.bit_length() * times + (right.bit_length() if operator == "*" else 0) > MOST_BITS:
                raise ExcessError("it computes with very large numbers")
        elif operator == "*":
            counts = [value for value in (left, right) if isinstance(value, int)]
            budget.check(max(sizes) * max(*counts, 1) if counts else 0)
        elif operator == "+":
            budget.check(sum(sizes))
        elif operator == "%" and isinstance(left, str):
            check_format(left, sizes[1])
        return super().call_binop(context, operator, left, right)


class _Namespace(Namespace):
    """A namespace whose attributes are no internals of Python's."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        # jinja2's own signature, so that `self` can be an attribute.
        self, *given = args
        values = dict(*given, **kwargs)
        for name in values:
            _Namespace._check(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _Namespace._check(name)
        super().__setitem__(name, value)

    @staticmethod
    def _check(name: object) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"a namespace cannot have an attribute {name!r}")


def _mapping(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


def _measured(value: Made) -> Made:
    """What is written, counted."""
    if value is not None and not isinstance(value, Undefined):
        current().write(measure(value))
    return value


def _raise(message: object) -> NoReturn:
    raise TemplateError(str(message)[:1000])


def _strftime(day: date, form: object) -> str:
    if not isinstance(form, str) or len(form) > _STRFTIME_LENGTH or _LONG_NUMBER.search(form):
        raise TemplateError("strftime_now: expected a short format")
    return day.strftime(form)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    # transformers replaces jinja2's filter, which escapes what HTML would misread.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@lru_cache(maxsize=16)
def _compiled(source: str, day: date) -> Template:
    return _Sandbox(day).from_string(source)


def check_template(source: str, day: date) -> None:
    """Raise DataError for a template that is no program of jinja2's."""
    if len(source) > LONGEST_TEMPLATE:
        raise DataError(
            f"the chat template has {len(source)} characters, expected at most {LONGEST_TEMPLATE}; shorten it."
        )
    with _errors("is no template of jinja2"):
        _compiled(source, day)


def render(source: str, day: date, variables: Mapping[str, Any]) -> str:
    """What a template makes of `variables` on a `day`, marks of {% generation %} included; raises DataError."""
    check_template(source, day)
    with budget_for(variables), _errors("refuses the conversation"):
        return _compiled(source, day).render(**variables)


@contextmanager
def _errors(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # A template can raise whatever Python's operators raise.
        reason = str(error) if isinstance(error, TemplateError) else f"{type(error).__name__}: {error}"
        raise DataError(f"the chat template {what} ({reason.rstrip('.')}).") from None
