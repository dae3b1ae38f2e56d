"""What is known of a decoder that is a checkpoint of its own, or a part of one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final

from counterpoint.convert.fields import Fields
from counterpoint.convert.links import Link
from counterpoint.families.decoder.spec import DecoderConfig


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """How a config.json becomes a section, and a section the links of its tensors.

    Keys `without_effect` change no value that is converted.
    """

    section: Callable[[Fields], DecoderConfig]
    links: Callable[[DecoderConfig], Iterable[Link]]
    without_effect: frozenset[str]
