"""What is known of an encoder that is a checkpoint of its own, or a part of one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from counterpoint.convert.fields import Fields
from counterpoint.convert.links import Link
from counterpoint.families.encoder import EncoderSection

S = TypeVar("S", bound=EncoderSection)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower(Generic[S]):
    """How a config.json becomes a section, and a section the links of its tensors, without a projector.

    Keys `without_effect` change no value that is converted; `unused` are patterns of tensors that are not read; `spell`
    turns a name found in a checkpoint into the one in links.
    """

    section: Callable[[Fields], S]
    links: Callable[[S], Iterable[Link]]
    without_effect: frozenset[str]
    unused: tuple[str, ...] = ()
    spell: Callable[[str], str] = str
