"""A registry: the kinds of one sort by name, the only place where they are enumerated."""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar, final

from counterpoint.errors import ConfigError
from counterpoint.section.problem import nearest

T = TypeVar("T")


@final
class Registry(Generic[T]):
    """Kinds of one `sort`, for example "schedule", by name, in the order of registration.

    The package's own kinds are given at construction; users' kinds are added by `register`. One that is hidden can no
    longer be chosen, and its name is free; a config or a plan that has chosen it before still finds it by its name.
    """

    def __init__(self, sort: str, kinds: Mapping[str, T] = MappingProxyType({})) -> None:
        self._sort = sort
        self._kinds = dict(kinds)
        self._hidden: dict[str, T] = {}

    @property
    def sort(self) -> str:
        """The sort of its kinds, in one word."""
        return self._sort

    def register(self, name: str, kind: T) -> None:
        """Add a kind; raises ConfigError for a name that is taken or is no name."""
        self.check(name, f"register_{self._sort}")
        self._kinds[name] = kind
        self._hidden.pop(name, None)

    def hide(self, name: str, kind: T) -> None:
        """Hide a kind, if it is the one of its name."""
        if self._kinds.get(name) is kind:
            self._hidden[name] = self._kinds.pop(name)

    def check(self, name: str, caller: str) -> None:
        """Raise ConfigError, which begins with the `caller`, for a name that is taken or not a valid name."""
        if not re.fullmatch(r"[a-z0-9_]+", name):
            raise ConfigError(
                f"{caller}: got the name {name!r}, expected lowercase letters, digits and _; choose another"
            )
        if name in self:
            raise ConfigError(
                f"{caller}: got the name {name!r}, which is taken, expected none of {sorted(self)}; choose another"
            )

    def __getitem__(self, name: str) -> T:
        """The kind of a name; raises ConfigError that suggests the most similar known name."""
        for kinds in (self._kinds, self._hidden):
            if name in kinds:
                return kinds[name]
        raise ConfigError(f"{self._sort}: got {name!r}, expected {self.expected}; {self.remedy(name)}")

    def __contains__(self, name: object) -> bool:
        return name in self._kinds

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def items(self) -> Iterator[tuple[str, T]]:
        """Names and their kinds."""
        return iter(self._kinds.items())

    def values(self) -> Iterator[T]:
        """The kinds alone."""
        return iter(self._kinds.values())

    @property
    def expected(self) -> str:
        """The expected names, for the error about an unknown one."""
        return f"one of {', '.join(self)}" if self._kinds else "a registered name: there is none"

    def remedy(self, name: str) -> str:
        """The remedy, for the error about an unknown name."""
        alike = nearest(name, self._kinds)
        return "register it before it is named, or take a known one" if alike is None else f"did you mean {alike}?"
