"""What is known of an encoder that is a checkpoint of its own, or a part of one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from counterpoint.convert.fields import Fields
from counterpoint.convert.links import Link
from counterpoint.convert.spelling import Spelling
from counterpoint.families.encoder import EncoderSection

S = TypeVar("S", bound=EncoderSection)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower(Generic[S]):
    """How a config.json becomes a section, and a section the links of its tensors, without a projector.

    Keys `without_effect` change no value that is converted; `unused` are patterns of tensors that are not read, and
    `otherwise` links to tensors of other shapes, or values of those that may be missing.
    """

    section: Callable[[Fields], S]
    links: Callable[[S], Iterable[Link]]
    without_effect: frozenset[str]
    unused: tuple[str, ...] = ()
    spelling: Spelling = field(default_factory=dict)
    otherwise: Callable[[S, Fields], Iterable[Link]] = lambda _section, _fields: ()
