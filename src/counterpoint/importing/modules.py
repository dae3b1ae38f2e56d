"""The sections of an imported module, as a config.json describes it, without keys that are our defaults."""

from collections.abc import Iterator
from typing import Any

from counterpoint.convert.composite import Stored
from counterpoint.families import FAMILIES, family_of
from counterpoint.importing.keys import Key
from counterpoint.importing.source import Source
from counterpoint.section.section import Section

LEARNING_RATE = 1e-5

_ITEMS = ("image", "audio")
_KIND = "kind"
_BY_LETTER = "layers"
"""A decoder's sections by letter hand down the decoder's keys, so each of theirs is said."""


def module_keys(stored: Stored, source: Source, items: Key | None, layout: dict[str, Any], recompute: bool) -> Key:
    """A module; `items` says how files enter it, if any do."""
    section = stored.model.section
    called = FAMILIES[section.kind].called
    model = Key("model", comment=f"{called}, from config.json", below=tuple(_model(stored, items)))
    below = [model]
    if source.weights is not None:
        path = str(source.path)
        fresh = {"path": path, "fresh": ["projector.*"]} if stored.adds_projector else path
        comment = "the folder has no projector: it is initialised at random" if stored.adds_projector else ""
        below.append(Key("init_from", fresh, comment))
    below.append(Key("layout", layout))
    if recompute:
        below.append(Key("recompute", "full"))
    return Key("", below=(*below, Key("optimizer", {"lr": LEARNING_RATE})))


def _model(stored: Stored, items: Key | None) -> Iterator[Key]:
    section = stored.model.section
    idle = set(family_of(section).idle(section))
    yield Key(_KIND, section.kind)
    for name, field in type(section).model_fields.items():
        is_idle = name in idle and not field.is_required()
        if name == _KIND or name in _ITEMS or name not in section.model_fields_set or is_idle:
            continue
        if name == "projector":
            yield _projector(stored)
        elif field.is_required() or getattr(section, name) != field.get_default(call_default_factory=True):
            yield Key(name, _plain(getattr(section, name), whole=name == _BY_LETTER))
    if items is not None:
        yield items


def _projector(stored: Stored) -> Key:
    section = stored.model.section
    if stored.adds_projector:
        # The width of the usual two-layer projector (Liu et al., 2023, arXiv:2310.03744).
        return Key("projector", {_KIND: "mlp", "hidden": section.projected}, "a choice: the folder has none")
    return Key("projector", _plain(section.projector))


def _plain(value: Any, *, whole: bool = False) -> Any:
    """A value as data, sections without keys that are our defaults unless they are wanted `whole`."""
    if isinstance(value, Section):
        return value.model_dump(mode="json", by_alias=True, exclude_defaults=not whole)
    if isinstance(value, dict):
        return {key: _plain(one, whole=whole) for key, one in value.items()}
    return list(value) if isinstance(value, tuple) else value
