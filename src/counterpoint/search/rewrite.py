"""A candidate as a config: the text of the file that the search began with, with the candidate's keys."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from counterpoint.config.edit_text import edited
from counterpoint.config.schema import Config
from counterpoint.errors import InputError
from counterpoint.plan.layout import format_ranks
from counterpoint.search.candidate import LAID_OUT, Candidate, idle_of


class Winner(NamedTuple):
    """A candidate and the number of ranks that it is for."""

    world_size: int
    candidate: Candidate


_LISTED_AT_MOST = 16
"""Ranks that are written one by one; more are written as ranges."""


def changed_keys(base: Config, found: Winner) -> dict[str, Any]:
    """The keys that a config has not got like this, by their dotted paths, as plain values."""
    keys: dict[str, Any] = {"world.size": found.world_size, "world.idle": list(idle_of(base, found.world_size))}
    candidate = found.candidate
    for name, choice in candidate.choices:
        where, degrees = f"modules.{name}", choice.degrees
        keys[f"{where}.layout.ranks"] = list(choice.ranks)
        keys |= {f"{where}.layout.{key}": getattr(degrees, key) for key in LAID_OUT if key != "dp_shard"}
        if base.modules[name].layout.dp_shard is not None:
            keys[f"{where}.layout.dp_shard"] = degrees.dp_shard
        if degrees.pp * degrees.chunks != base.modules[name].layout.stages:
            keys[f"{where}.layout.split"] = "even"
        keys |= {f"{where}.layout.expert.{key}": getattr(degrees, key) for key in ("ep", "etp")}
        what = choice.recompute.what
        keys[f"{where}.recompute"] = what if isinstance(what, str) else list(what)
        keys[f"{where}.recompute_keeps"] = list(choice.recompute.keeps)
    keys |= {f"schedule.{key}": value for key, value in candidate.schedule.model_dump(mode="json").items()}
    known = base.resolved()
    return {path: _short(path, value) for path, value in keys.items() if _at(known, path) != value}


def rewritten(source: Path, base: Config, found: Winner, overrides: Mapping[str, Any], why: str) -> str:
    """The text of a config file with the keys of what was found and those that were laid over it, under `why`.

    Comments are kept where the file has no aliases. Raises InputError for a file that cannot be read.
    """
    try:
        # A byte order mark may only begin a file, and a comment is put before what this one begins with.
        text = source.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"{source}: cannot be read ({error.strerror}), expected the config; correct the path"
        ) from None
    made, keeps_comments = edited(text, {**overrides, **changed_keys(base, found)})
    note = f" Comments below are those of {source.name}." if keeps_comments and "#" in text else ""
    return f"# {why}{note}\n{made}"


def _short(path: str, value: Any) -> Any:
    if path.endswith(".ranks") and len(value) > _LISTED_AT_MOST:
        return format_ranks(tuple(value))
    return value


def _at(data: Any, path: str) -> Any:
    for part in path.split("."):
        data = data.get(part) if isinstance(data, dict) else None
    return data
