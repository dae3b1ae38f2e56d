"""From pydantic's errors to our sentences."""

from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from counterpoint.config.keys import Place, is_known, known_keys, locate, section_by_default
from counterpoint.config.megatron import megatron_hint
from counterpoint.section.expected import expected_of
from counterpoint.section.problem import Problem, nearest, show
from counterpoint.section.section import Section

MOVED = {
    "data.image": ("the section image of each module that takes images", "move it to modules.*.model.image"),
    "log.tensorboard": ("true or false, or the list log.recorders", "list {kind: tensorboard} there, or leave it out"),
    "data.audio": ("the section audio of each module that takes clips", "move it to modules.*.model.audio"),
}
"""What stands in the place of keys of earlier versions, and what to do."""

_KEY = "[key]"
"""Ends the location of an error about a name rather than about what it names."""


def explain(error: ValidationError) -> list[Problem]:
    """One problem per place; the alternatives of a union are joined in one sentence."""
    by_path: dict[str, list[tuple[Place, ErrorDetails]]] = {}
    for details in error.errors():
        place = locate(details["loc"], is_unknown=details["type"] == "extra_forbidden")
        by_path.setdefault(place.path, []).append((place, details))
    # An alternative of a union that reached an entry is the one that was meant.
    paths = [path for path in by_path if not any(other.startswith(f"{path}.") for other in by_path)]
    names = [path for path in by_path if path not in paths and by_path[path][0][1]["loc"][-1] == _KEY]
    return [_problem([details for _, details in by_path[path]], by_path[path][0][0]) for path in (*names, *paths)]


def _problem(errors: Sequence[ErrorDetails], place: Place) -> Problem:
    first = errors[0]
    path = place.path or "the config"
    match first["type"]:
        case "extra_forbidden":
            return (
                _unknown_key(place) if path not in MOVED else Problem(path, "a key of earlier versions", *MOVED[path])
            )
        case "missing" if (section := _expected_section(place)) is not None and section.left_out is not None:
            return Problem(path, "nothing", *section.left_out)
        case "missing":
            what = "entry to the list" if place.name.isdigit() else f"key {place.name} to its section"
            return Problem(path, "nothing", "a value, because it has no default", f"add the {what}")
        case "union_tag_not_found":
            return Problem(f"{path}.kind", "nothing", "the kind of this section", "add the key kind")
        case "union_tag_invalid":
            path = f"{path}.kind"
    expected = dict.fromkeys(expected_of(details) for details in errors)
    return Problem(path, _got(first), " or ".join(expected), _remedy(errors, place))


def _expected_section(place: Place) -> type[Section] | None:
    """The section that a place has if nothing says of which kind."""
    return None if place.field is None else section_by_default(place.field)


def _got(details: ErrorDetails) -> str:
    return show(details["ctx"]["tag"]) if details["type"] == "union_tag_invalid" else show(details["input"])


def _unknown_key(place: Place) -> Problem:
    expected = f"one of {', '.join(sorted(place.siblings))}"
    return Problem(place.path, "an unknown key", expected, _unknown_key_remedy(place))


def _unknown_key_remedy(place: Place) -> str:
    alike = nearest(place.name, place.siblings)
    if alike is not None:
        return f"did you mean {alike}?"
    hint = megatron_hint(place.name)
    if hint is not None:
        return hint
    if is_known(place.path, known_keys()):
        return "sections of another kind have it: remove it or choose that kind"
    elsewhere = sorted(key for key in known_keys() if key.rsplit(".", 1)[-1] == place.name)
    return f"did you mean {elsewhere[0]}?" if elsewhere else "remove it"


def _remedy(errors: Sequence[ErrorDetails], place: Place) -> str:
    value = errors[0]["ctx"]["tag"] if errors[0]["type"] == "union_tag_invalid" else errors[0]["input"]
    choices = [word for details in errors for word in _quoted(details)]
    alike = nearest(value, choices) if isinstance(value, str) else None
    if alike is not None:
        return f"did you mean {alike}?"
    if any(details["type"] == "string_type" for details in errors) and isinstance(value, bool | int | float):
        return "put it in quotes if it is meant as text"
    if place.field is None or place.field.is_required():
        return "correct the value"
    default = place.field.get_default(call_default_factory=True)
    if isinstance(default, tuple):
        default = [entry.model_dump() if isinstance(entry, Section) else entry for entry in default]
    what = "its defaults" if isinstance(default, Section) else f"the default, {show(default)}"
    return f"correct it or leave it out for {what}"


def _quoted(details: ErrorDetails) -> list[str]:
    """The words that pydantic lists in quotes as allowed."""
    context = details.get("ctx", {})
    listed = str(context.get("expected", context.get("expected_tags", "")))
    return listed.split("'")[1::2]
