"""The config keys in which two models of a family differ so that values of their tensors mean different things."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from counterpoint.families import family_of, meaning_of
from counterpoint.kinds.family import Family, Model

Difference = tuple[str, Any, Any]
"""A key below `model`, the one's value and the other's."""

_PROJECTORS = ("projector.", "taps.")
_ABOUT: Mapping[str, tuple[str, ...]] = {
    "projector": _PROJECTORS, "merge": _PROJECTORS, "stack": _PROJECTORS, "out": _PROJECTORS, "taps": ("taps.",),
    "tap_norm": ("taps.",), "final_norm": ("norm.",), "positions": ("embed.positions.", "embed.times."),
    "fit": ("embed.positions.",), "mtp": ("mtp.",), "vocab": ("embed.", "head.", "words."),
}  # fmt: skip
"""Keys of a model that are about parameters of these names only."""

_LAYERS = "layers"


def free_keys(ours: Collection[str], theirs: Collection[str]) -> frozenset[str]:
    """Keys in which two models may differ, from the names of both, without those that are reinitialised."""
    free = {key for key, prefixes in _ABOUT.items() if not any(n.startswith(prefixes) for n in (*ours, *theirs))}
    return frozenset(free | ({_LAYERS} if _layers(ours) == _layers(theirs) else set()))


def _layers(names: Collection[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith(f"{_LAYERS}.")}


def differences(ours: Model, theirs: Model, free: Collection[str]) -> Iterator[Difference]:
    """Keys, without the `free` ones, in which two models of a family differ so that weights of one are wrong in the
    other."""
    family = family_of(theirs.section)
    one, other = (_meaning(model) for model in (ours, theirs))
    if one.get("pattern") != other.get("pattern"):
        yield "pattern", one["pattern"], other["pattern"]
        return
    idle = {*family.idle(theirs.section), *family.apart, *free}
    # Of encoders the key is their number of layers; a decoder's has sections below it.
    sections = idle - {_LAYERS}
    for key, mine, stored in (*_apart("", one, other), *_ends(ours, theirs)):
        if key not in idle and key.split(".")[0] not in sections and not _is_same(family, key, mine, stored):
            yield key, mine, stored


def _meaning(model: Model) -> dict[str, Any]:
    """The keys that determine a model's tensors; words are counted also where a section leaves that to a tokenizer."""
    keys = meaning_of(model.section)
    return keys | {"vocab": model.ends.vocab} if model.section.words else keys


def _apart(where: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Difference]:
    for key, value in other.items():
        mine = one.get(key)
        if isinstance(mine, dict) and isinstance(value, dict):
            yield from _apart(f"{where}{key}.", mine, value)
        elif mine != value:
            yield f"{where}{key}", mine, value


def _ends(ours: Model, theirs: Model) -> Iterator[Difference]:
    if not family_of(theirs.section).reads_documents:
        yield from (
            (key, mine, stored)
            for key, mine, stored in (
                ("out", ours.ends.leaving, theirs.ends.leaving),
                ("taps", ours.ends.taps, theirs.ends.taps),
            )
            if mine != stored
        )


def _is_same(family: Family[Any], key: str, one: Any, other: Any) -> bool:
    return key in family.switches and (one is None) == (other is None)
