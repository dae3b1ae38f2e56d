"""A Hugging Face config.json, read strictly: one key at a time, with its type."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from counterpoint.errors import CheckpointError


@final
@dataclass(frozen=True, slots=True)
class Fields:
    """The content of a config.json; null is as good as absent. Every method raises CheckpointError.

    `where` names the content in messages.
    """

    values: Mapping[str, Any]
    where: str = "config.json"

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number from 1; it must be there if there is no default."""
        value = self._value(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self._unlike(key, value, "a whole number from 1")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A number."""
        value = self._value(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self._unlike(key, value, "a number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self._unlike(key, value, "true or false")
        return value

    def text(self, key: str) -> str:
        """A string, which must be there."""
        value = self._value(key, None)
        if not isinstance(value, str):
            raise self._unlike(key, value, "a string")
        return value

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers, empty if absent."""
        value = self._value(key, [])
        if not isinstance(value, list | tuple) or not all(type(item) is int for item in value):
            raise self._unlike(key, value, "a list of whole numbers")
        return tuple(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings, empty if absent."""
        value = self._value(key, [])
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise self._unlike(key, value, "a list of strings")
        return tuple(value)

    def section(self, key: str) -> "Fields":
        """What lies below a key, nothing if it is absent."""
        value = self._value(key, {})
        if not isinstance(value, Mapping):
            raise self._unlike(key, value, "a section")
        return Fields(value, f"{self.where}, {key}")

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self.values.get(key) is not None

    def demand(self, key: str, *supported: object) -> None:
        """Refuse a key that is there with any but these values."""
        if self.has(key) and self.values[key] not in supported:
            raise self._unlike(key, self.values[key], " or ".join(repr(value) for value in supported))

    def _value(self, key: str, default: object) -> object:
        value = self.values[key] if self.has(key) else default
        if value is None:
            raise CheckpointError(f"{self.where} has no {key}: choose a model whose config.json is whole.")
        return value

    def _unlike(self, key: str, value: object, expected: str) -> CheckpointError:
        return CheckpointError(
            f"{self.where} says {key}: {value!r}, but only {expected} can be converted: choose another model."
        )
