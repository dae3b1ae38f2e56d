"""The public names, which nothing adds to or takes from by accident."""

import pytest

import counterpoint

PUBLIC = {
    "Config", "CounterpointError", "Layout", "Placement", "Plan", "Trainer", "build_plan", "check_plan", "load_config",
    "register_module", "register_schedule", "simulate", "train", "verify",
}  # fmt: skip


def test_public_names() -> None:
    assert set(counterpoint.__all__) == PUBLIC
    assert set(dir(counterpoint)) >= PUBLIC
    for name in PUBLIC:
        assert getattr(counterpoint, name) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = counterpoint.nothing
