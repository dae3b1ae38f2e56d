"""What is known of an encoder that lies alone in a checkpoint, or as a part of one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from counterpoint.convert.fields import Fields
from counterpoint.convert.keys import Keys
from counterpoint.convert.links import Link
from counterpoint.families.encoder import EncoderSection

S = TypeVar("S", bound=EncoderSection)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower(Generic[S]):
    """How a config.json becomes a section, and that the links of its tensors, without a projector.

    Patterns name tensors that are `unused` here; `spell` gives a name found in a checkpoint as links call it.
    """

    section: Callable[[Fields], S]
    links: Callable[[S], Iterable[Link]]
    keys: Keys
    unused: tuple[str, ...] = ()
    spell: Callable[[str], str] = str
