"""One key or one section of the reference, for the terminal."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace

from counterpoint.config.explain import MOVED
from counterpoint.config.keys import WILDCARD
from counterpoint.config.megatron import megatron_hint
from counterpoint.errors import InputError
from counterpoint.reference.parts import Key, Part, below, parts
from counterpoint.section.problem import Problem, nearest, show

_WIDTH = 100
_INDENT = " " * 4


def explain_key(path: str = "", kind: str | None = None) -> str:
    """What the reference says of a dotted path: a key, by kind where kinds differ, or the keys of a section.

    Names of modules and indices of entries stand for themselves or as `*`; the empty path is the config itself. With
    `kind` only sections of it count. Raises InputError for an unknown path or kind, with the one that is most alike.
    """
    all_parts = parts()
    keys = [(part, key) for part in all_parts for key in part.keys if _fits_one(path, _places(part, key))]
    sections = [part for part in all_parts if _fits_one(path, part.paths)]
    if not keys and not sections:
        raise InputError(_unknown(path, all_parts))
    if kind is not None:
        kinds = {name for part in (*sections, *(part for part, _key in keys)) for name in part.choice.kinds}
        if kind not in kinds:
            raise InputError(_unknown_kind(path, kind, sorted(kinds)))
        keys = [(part, key) for part, key in keys if kind in part.choice.kinds]
        sections = [part for part in sections if kind in part.choice.kinds]
    blocks = [*_key_blocks(path, keys), *(_section_block(path, part) for part in sections)]
    return "\n\n".join(blocks)


def completions(begun: str) -> list[str]:
    """How a dotted path that somebody began to type may go on, up to its next dot."""
    *names, begun_name = begun.split(".")
    found: dict[str, None] = {}
    for part in parts():
        for place in (place for key in part.keys for place in _places(part, key)):
            known = place.split(".")
            if len(known) > len(names) and all(p in (WILDCARD, name) for name, p in zip(names, known)):
                following = known[len(names)]
                if following != WILDCARD and following.startswith(begun_name):
                    found[".".join([*names, following])] = None
    return list(found)


def _places(part: Part, key: Key) -> tuple[str, ...]:
    return tuple(below(place, key.name) for place in part.paths)


def _fits_one(path: str, known: Sequence[str]) -> bool:
    names = path.split(".")
    patterns = (one.split(".") for one in known)
    return any(
        len(names) == len(pattern) and all(p in (WILDCARD, name) for name, p in zip(names, pattern))
        for pattern in patterns
    )


def _key_blocks(path: str, found: Sequence[tuple[Part, Key]]) -> Iterator[str]:
    """A block for all kinds that say the same of a key."""
    alike: dict[Key, list[Part]] = {}
    for part, key in found:
        alike.setdefault(replace(key, sections=()), []).append(part)
    for key, of in alike.items():
        facts = {"type": key.type.replace("`", ""), "default": key.default, "unit": key.unit}
        yield "\n".join(
            [
                f"{path}{_which(of)}",
                textwrap.fill(key.text, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT),
                *(f"{_INDENT}{name + ':':9}{fact}" for name, fact in facts.items() if fact),
            ]
        )


def _which(of: Sequence[Part]) -> str:
    """Which of several sections are meant, after their path."""
    kinds = [kind for part in of for kind in part.choice.kinds]
    keys = [part.choice.key for part in of if part.choice.key]
    return (f", of kind {', '.join(kinds)}" if kinds else "") + (f", with the key {', '.join(keys)}" if keys else "")


def _section_block(path: str, part: Part) -> str:
    head = f"{path or 'The config'}{_which([part])}: {part.summary}"
    width = max(len(key.name) for key in part.keys)
    lines = (f"{key.name:{width}}  {key.type.replace('`', '')}; {_default(key)}" for key in part.keys)
    hanging = _INDENT + " " * (width + 2)
    rows = [textwrap.fill(line, _WIDTH, initial_indent=_INDENT, subsequent_indent=hanging) for line in lines]
    return "\n".join([textwrap.fill(head, _WIDTH, subsequent_indent=_INDENT), *rows])


def _default(key: Key) -> str:
    return f"default {key.default}" if key.has_default else key.default


def _unknown(path: str, all_parts: Sequence[Part]) -> str:
    if path in MOVED:
        return str(Problem(path, "a key of earlier versions", *MOVED[path]))
    return f"{show(path)}: got an unknown key, expected one of the config; {_remedy(path, all_parts)}"


def _unknown_kind(path: str, kind: str, kinds: Sequence[str]) -> str:
    alike = nearest(kind, kinds)
    remedy = "leave --kind out" if alike is None else f"did you mean {alike}?"
    expected = f"one of {', '.join(kinds)}" if kinds else f"none, because {path} is of no kind"
    return f"--kind: got {show(kind)}, expected {expected}; {remedy}"


def _remedy(path: str, all_parts: Sequence[Part]) -> str:
    """The key of the same section that is most alike, or one of the same name elsewhere, or any that is alike."""
    folder, _dot, name = path.rpartition(".")
    known = [place for part in all_parts for key in part.keys for place in _places(part, key)]
    siblings = [key.name for part in all_parts if _fits_one(folder, part.paths) for key in part.keys]
    alike = nearest(name, siblings)
    if alike is not None:
        return f"did you mean {below(folder, alike)}?"
    elsewhere = next((place for place in known if place.rpartition(".")[2] == name), None) or nearest(path, known)
    if elsewhere is not None:
        return f"did you mean {elsewhere}?"
    return megatron_hint(path) or "counterpoint explain lists the sections"
