"""Spellings of names: that of the hub, those of other programs, and transformers' own in memory.

A spelling says, for beginnings of names that some files have, with what they begin in links. The longest beginning that
fits a name is replaced; a name that none fits is spelled as in links.
"""

from collections.abc import Iterable, Mapping

Spelling = Mapping[str, str]


def spelled(name: str, spelling: Spelling) -> str:
    """The name in links of a tensor that a file calls `name`."""
    start = max((one for one in spelling if name.startswith(one)), key=len, default=None)
    return name if start is None else spelling[start] + name[len(start) :]


def moved(parts: Iterable[str], into: str, *others: str) -> Spelling:
    """Names of these parts begin with `into` in links, and with any of the `others` in some files."""
    return {f"{other}{part}": f"{into}{part}" for other in others for part in parts}


def below(prefix: str, spelling: Spelling, *others: str) -> Spelling:
    """A part's spelling where its names begin with `prefix` in links, and with it or any of the `others` in files."""
    found: dict[str, str] = {other: prefix for other in others}
    return found | {f"{one}{a}": f"{prefix}{b}" for one in (prefix, *others) for a, b in spelling.items()}
