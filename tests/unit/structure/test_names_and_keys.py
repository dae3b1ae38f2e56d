"""What is promised by name: the public names, and that every config key is read by somebody."""

import ast
import inspect
from collections.abc import Iterator

import pytest

import counterpoint
from counterpoint.config import schema
from counterpoint.config.later import LATER
from counterpoint.config.section import Section
from tests.unit.structure.sources import trees

PUBLIC = {
    "Config", "CounterpointError", "Layout", "Placement", "Plan", "Trainer", "build_plan", "check_plan", "load_config",
    "register_schedule", "simulate", "train", "verify",
}  # fmt: skip


def test_public_names() -> None:
    assert set(counterpoint.__all__) == PUBLIC
    assert set(dir(counterpoint)) >= PUBLIC
    for name in PUBLIC:
        assert getattr(counterpoint, name) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = counterpoint.nothing  # type: ignore[attr-defined]


def test_every_key_has_a_reader() -> None:
    """Each key is read as an attribute outside config/, is read by a check in config/, or is refused until later."""
    read = {node.attr for tree in trees().values() for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    later = {row.key.rsplit(".", 1)[1] for row in LATER}
    unread = {f"{section.__name__}.{key}" for section, key in _keys() if key not in read and key not in later}
    # `kind` tells classes apart and so has the schema itself for a reader; `schema` is checked by its type.
    assert {name for name in unread if not name.endswith(".kind")} == {"Config.schema_version"}


def _keys() -> Iterator[tuple[type[Section], str]]:
    for name in schema.__all__:
        section = getattr(schema, name)
        if inspect.isclass(section) and issubclass(section, Section):
            yield from ((section, key) for key in section.model_fields)
