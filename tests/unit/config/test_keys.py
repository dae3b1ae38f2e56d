"""The schema as dotted keys."""

from typing import Any

from counterpoint.config import is_known, known_keys, load_config


def _leaves(tree: Any, path: str = "") -> set[str]:
    """Dotted paths of plain data: of every key and, for lists of sections, of every entry's keys."""
    paths: set[str] = set()
    for name, value in tree.items():
        here = f"{path}{name}"
        paths.add(here)
        if isinstance(value, dict):
            paths |= _leaves(value, f"{here}.")
        elif isinstance(value, list):
            for i, entry in enumerate(value):
                paths |= _leaves(entry, f"{here}.{i}.") if isinstance(entry, dict) else set()
    return paths


def test_every_key_of_a_resolved_config_is_known(emoji: dict[str, Any]) -> None:
    known = known_keys()
    names = {"modules.vision", "modules.language"}
    assert not {key for key in _leaves(load_config(emoji).resolved()) - names if not is_known(key, known)}


def test_known_keys_have_wildcards() -> None:
    known = known_keys()
    expected = {
        "schema",
        "modules",
        "modules.*.layout",
        "modules.*.layout.expert.ep",
        "modules.*.model.projector.hidden",
        "modules.*.model.rope_theta",
        "edges.*.mark",
        "data.train.*.synthetic.text_tokens.median",
        "data.evaluation.*.split",
        "world.idle",
    }
    assert expected <= known
    assert "schema_version" not in known
    assert not is_known("modules.vision.layout.tensor", known)
    assert not is_known("modules", set())
