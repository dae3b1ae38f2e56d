"""A Hugging Face config.json, read strictly: one key at a time, with its type and transformers' default."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeGuard, final

from counterpoint.convert.changed import CHANGED, release_of
from counterpoint.convert.keys import Keys
from counterpoint.convert.without_effect import OF_ALL
from counterpoint.errors import CheckpointError
from counterpoint.section.section import LARGEST_INTEGER

_ABSENT = object()
_NOTHING: Mapping[str, Keys] = MappingProxyType({})


@final
class Fields:
    """The content of a config.json, or of a section. Every method but `has` raises CheckpointError.

    A key that is absent has the value in `defaults`, else the one that transformers gives to it in a model of this
    `kind`, which is stated as `model_type` if it is not known; `known` are the keys of all kinds. `where` names the
    content in messages. Keys that were read are noted, for `refuse_rest`.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        where: str = "config.json",
        kind: str | None = None,
        defaults: Mapping[str, Any] | None = None,
        *,
        known: Mapping[str, Keys] = _NOTHING,
    ) -> None:
        self.values, self.where = values, where
        stated = values.get("model_type") if kind is None else kind
        self.kind = stated if isinstance(stated, str) else ""
        self._known, self._keys = known, known.get(self.kind, Keys())
        self._defaults = {**self._keys.defaults, **(defaults or {})}
        self._asked: set[str] = set()
        self._left_out: set[str] = set()
        self._sections: dict[str, Fields] = {}
        self._other_kinds: list[Fields] = []

    def integer(self, key: str, least: int | None = 1, most: int = LARGEST_INTEGER) -> int:
        """A whole number, of at least `least` and at most `most`."""
        value = self._value(key)
        bottom = -most if least is None else least
        if not _is_integer(value) or not bottom <= value <= most:
            words = "a whole number" if least is None else f"a whole number from {least}"
            raise self.unlike(key, value, f"{words} to {most}" if _is_integer(value) and value > most else words)
        return value

    def optional(self, key: str, otherwise: int) -> int:
        """A whole number from 1; where it is null, or absent without a default, it follows from other keys."""
        self._asked.add(key)
        return self.integer(key) if self.values.get(key, self._defaults.get(key)) is not None else otherwise

    def number(self, key: str, default: float | None = None) -> float:
        """A number."""
        value = self._value(key, default)
        if not is_number(value):
            raise self.unlike(key, value, "a number")
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self.unlike(key, value, "true or false")
        return value

    def text(self, key: str) -> str:
        """A string."""
        value = self._value(key)
        if not isinstance(value, str):
            raise self.unlike(key, value, "a string")
        return value

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers."""
        value = self._value(key)
        if not isinstance(value, list | tuple) or not all(map(_is_integer, value)):
            raise self.unlike(key, value, "a list of whole numbers")
        if any(abs(item) > LARGEST_INTEGER for item in value):
            raise self.unlike(key, value, f"whole numbers to {LARGEST_INTEGER}")
        return tuple(value)

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of numbers."""
        value = self._value(key)
        if not isinstance(value, list | tuple) or not all(is_number(item) for item in value):
            raise self.unlike(key, value, "a list of numbers")
        return tuple(float(item) for item in value)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        value = self._value(key)
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise self.unlike(key, value, "a list of strings")
        return tuple(value)

    def section(self, key: str, kind: str | None = None) -> "Fields":
        """The section at a key; if it is absent or null, what transformers then makes of it."""
        self._asked.add(key)
        value = self.values.get(key)
        if not isinstance(value, Mapping | None):
            raise self.unlike(key, value, "a section")
        if key not in self._sections:
            defaults = (self._keys.absent if value is None else self._keys.empty).get(key)
            self._sections[key] = Fields(value or {}, f"{self.where}, {key}", kind, defaults, known=self._known)
        return self._sections[key]

    def arguments(self, key: str, keys: Keys) -> "Fields":
        """The section at a key, of which these `keys` are known; whoever asks for it refuses its rest."""
        self._asked.add(key)
        value = self.values.get(key)
        if not isinstance(value, Mapping):
            raise self.unlike(key, value, "a section")
        return Fields(value, f"{self.where}, {key}", key, known={key: keys})

    def flat(self, kind: str) -> "Fields":
        """The same keys read as those of a model of this kind, for older files that keep them outside of a section."""
        found = Fields(self.values, self.where, kind, known=self._known)
        found._asked, found._sections = self._asked, self._sections
        self._other_kinds.append(found)
        return found

    def kind_of(self, key: str, otherwise: str) -> str:
        """The `model_type` that a section states."""
        value = self.values.get(key)
        stated = value.get("model_type") if isinstance(value, Mapping) else None
        return stated if isinstance(stated, str) else otherwise

    def pass_over(self, known: Mapping[str, Any]) -> None:
        """Note keys as read whose content is known from elsewhere."""
        self._asked |= {key for key, value in self.values.items() if key in known and known[key] == value}

    def default(self, key: str) -> Any:
        """What transformers takes for a key that is absent; None if nothing is known."""
        return self._defaults.get(key)

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        self._asked.add(key)
        return self.values.get(key) is not None

    def demand(self, key: str, *supported: object) -> None:
        """Refuse a key with any but these values; null is as good as absent."""
        self._asked.add(key)
        default = self._defaults.get(key)
        value = self.values.get(key)
        value = default if value is None else value
        if value is not None and not any(_is_same(value, one) for one in supported):
            raise self.unlike(key, value, " or ".join(map(repr, supported)) or "null")

    def unlike(self, key: str, value: object, expected: str) -> CheckpointError:
        """The error for a key whose value cannot be converted, by what is `expected`."""
        return CheckpointError(
            f"{self.where} says {key}: {shown(value)}, but only {expected} can be converted: choose another model."
        )

    def refuse_rest(self) -> None:
        """Raise CheckpointError for a key that was not read, unless it is null or known to change no value."""
        for fields in self._all():
            known = fields._asked | OF_ALL | fields._keys.without_effect
            for key, value in fields.values.items():
                if key not in known and value is not None:
                    raise CheckpointError(
                        f"{fields.where} says {key}: {shown(value)}, of which nothing is known here: choose another "
                        "model, or remove the key if it changes no value."
                    )

    def refuse_changed(self, version: object) -> None:
        """Raise CheckpointError for a key that was left out of a file of this `transformers_version`, when its default
        was another than today."""
        release = release_of(version)
        if release is None:
            return
        for fields in (kind for whole in self._all() for kind in (whole, *whole._other_kinds)):
            for changed in CHANGED:
                if changed.kind == fields.kind and changed.key in fields._left_out and release < changed.since:
                    now = fields._defaults[changed.key]
                    raise CheckpointError(
                        f"{fields.where} has no {changed.key}, whose default was {changed.old} when transformers "
                        f"{version} wrote it and is {now} since {'.'.join(map(str, changed.since))}: add the key with "
                        "the value that the model was trained with."
                    )

    def _all(self) -> Iterator["Fields"]:
        yield self
        for section in self._sections.values():
            yield from section._all()

    def _value(self, key: str, default: object = None) -> object:
        """The value of a key; an explicit `default` also replaces null."""
        self._asked.add(key)
        value = self.values.get(key, self._defaults.get(key, _ABSENT))
        if key not in self.values:
            self._left_out.add(key)
        value = default if default is not None and (value is _ABSENT or value is None) else value
        if value is _ABSENT:
            raise CheckpointError(f"{self.where} has no {key}: choose a model whose config.json is whole.")
        return value


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value of JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_same(value: object, other: object) -> bool:
    """Whether two values of JSON are equal: 0 is 0.0, but not false."""
    return isinstance(value, bool) == isinstance(other, bool) and value == other


def shown(value: object) -> str:
    """A value in a message, cut to a few words."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 4]} ..."


_LONGEST_SHOWN = 80
LARGEST_NUMBER = 1e300
