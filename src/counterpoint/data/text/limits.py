"""How much a chat template may do: budgets of work and text, and checks before what could make little large."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from types import FunctionType
from typing import Any

from jinja2 import TemplateError

_FREE_SIZE, _SIZE_PER_GIVEN = 2**18, 16
"""Largest value, and most text, as characters and elements: in any case, and for each that the template is given."""

_FREE_WORK, _WORK_PER_GIVEN = 2**18, 64
TURN_WORK = 8
_CHARACTERS_AT_ONCE = 64
_MOST_SECONDS = 20.0
_LARGEST_COUNT = 10**4
"""Of an argument that could be a width or a count."""

_LARGEST_INDENT = 16
MOST_BITS = 2**12
_NUMBER = re.compile(r"\d+")
_UNSAFE_METHODS = frozenset({"encode", "expandtabs", "format_map", "maketrans", "translate"})
"""Methods of texts and numbers that no template needs and whose results have no limit here."""

_OF_NUMBERS = frozenset({"abs", "bit_length", "d", "default", "float", "int", "is_integer", "max", "min", "round"})
"""Filters and methods of numbers as such."""


class ExcessError(TemplateError):
    """A template that does or writes more than any conversation needs."""


class _Budget:
    """What is left to one rendering for what it was given."""

    def __init__(self, given: int) -> None:
        self.largest = self._text = _FREE_SIZE + _SIZE_PER_GIVEN * given
        self._work = _FREE_WORK + _WORK_PER_GIVEN * given
        self._deadline = time.monotonic() + _MOST_SECONDS

    def write(self, characters: int) -> None:
        """Count text that is written."""
        self._text -= characters
        if self._text < 0:
            raise ExcessError("it writes too much")

    def work(self, units: int) -> None:
        """Count work; one unit is about that of one element."""
        self._work -= units
        # Work of the same size takes unequal time; only a template made to be slow comes near this.
        if self._work < 0 or time.monotonic() > self._deadline:
            raise ExcessError("it does not end")

    def check(self, size: int) -> None:
        """Raise ExcessError if a value of a size is too large."""
        if size > self.largest:
            raise ExcessError("its values grow too large")


_BUDGET: ContextVar[_Budget] = ContextVar("budget")


def current() -> _Budget:
    """The budget of the rendering at hand; while a template is compiled, a fresh one."""
    return _BUDGET.get(None) or _Budget(0)


def _weigh(value: object, largest: float) -> tuple[int, int]:
    """The size of a value, in which those that occur twice count twice, and the work to find it; ExcessError beyond
    `largest`."""
    if isinstance(value, str) and len(value) <= largest:
        return len(value), 1 + len(value) // _CHARACTERS_AT_ONCE
    waiting, size, work = [value], 0, 1
    while waiting:
        found = waiting.pop()
        if isinstance(found, str | bytes):
            size += len(found)
            work += len(found) // _CHARACTERS_AT_ONCE
        elif isinstance(found, int):
            size += 1
            if found.bit_length() > MOST_BITS:
                raise ExcessError("it computes with very large numbers")
        elif isinstance(found, Mapping):
            size, work = size + len(found), work + 2 * len(found)
            waiting += [*found.keys(), *found.values()]
        elif isinstance(found, list | tuple | set | frozenset | range):
            size, work = size + len(found), work + len(found)
            if not isinstance(found, range):
                waiting += found
        if size > largest:
            raise ExcessError("its values grow too large")
    return size, work


def measure(value: object) -> int:
    """The size of a value, which must not be too large; the work is counted."""
    budget = current()
    size, work = _weigh(value, budget.largest)
    budget.work(work)
    return size


def check_call(name: str, arguments: Sequence[object]) -> None:
    """Raise ExcessError before a filter, or a method of a text or number, that could make much of little."""
    if name in _UNSAFE_METHODS:
        raise ExcessError(f"it calls {name}, which chat templates may not")
    budget = current()
    total = measure(list(arguments))
    numbers = [value for value in arguments if isinstance(value, int) and name not in _OF_NUMBERS]
    if any(abs(value) > (_LARGEST_INDENT if name == "tojson" else _LARGEST_COUNT) for value in numbers):
        raise ExcessError(f"it calls {name} with {max(numbers, key=abs)}")
    text = arguments[0] if arguments and isinstance(arguments[0], str) else ""
    texts = [value for value in arguments[1:] if isinstance(value, str)]
    widest = max([0, *numbers, *map(len, texts)])
    if name == "replace" and len(texts) > 1:
        budget.check(len(text) + (text.count(texts[0]) if texts[0] else len(text) + 1) * len(texts[1]))
    if name == "indent":
        budget.check(len(text) + (text.count("\n") + 1) * widest)
    if name == "format":
        check_format(text, total)
    if name == "join" and len(arguments) > 1:
        budget.check(total + sum(len(value) for value in arguments if isinstance(value, Sized)) * _longest(arguments))


def _longest(values: Sequence[object]) -> int:
    return max((len(value) for value in values if isinstance(value, str)), default=0)


def check_format(text: str, arguments: int) -> None:
    """Raise ExcessError for a format whose widths or whose arguments, where they occur, are too large."""
    widths = sum(int(digits) if len(digits) < 9 else 10**9 for digits in _NUMBER.findall(text))
    places = text.count("{") + text.count("%") + text.count("*")
    current().check(len(text) + widths + places * (arguments + _LARGEST_COUNT * text.count("{:{")))
    if "*" in text:
        raise ExcessError("it formats with widths that are not in its text")


def checked_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter of a name, with a look at what could come of it before."""
    # A filter may get the environment or the context first.
    heads = int(isinstance(function, FunctionType) and "jinja_pass_arg" in vars(function))

    @wraps(function)
    def checked(*arguments: Any, **named: Any) -> Any:
        before, values = arguments[:heads], list(arguments[heads:])
        if values and isinstance(values[0], Iterator):
            values[0] = _drawn(values[0])
        check_call(name, [*values, *named.values()])
        return function(*before, *values, **named)

    return checked


def _drawn(values: Iterator[object]) -> list[object]:
    """The elements of a lazy sequence, at most as many as a value may have."""
    budget = current()
    found: list[object] = []
    for value in values:
        found.append(value)
        budget.work(1)
        budget.check(len(found))
    return found


@contextmanager
def budget_for(variables: Mapping[str, Any]) -> Iterator[None]:
    """What is inside is one rendering of these variables."""
    given, _work = _weigh(list(variables.values()), float("inf"))
    token = _BUDGET.set(_Budget(given))
    try:
        yield
    finally:
        _BUDGET.reset(token)
