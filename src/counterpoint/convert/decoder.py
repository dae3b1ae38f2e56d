"""What is known of a decoder that is a checkpoint of its own, or a part of one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final

from counterpoint.convert.fields import Fields
from counterpoint.convert.links import Link
from counterpoint.convert.spelling import Spelling, moved
from counterpoint.families.decoder.spec import DecoderConfig


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """How a config.json becomes a section, and a section the links of its tensors.

    Keys `without_effect` change no value that is converted. In links, names of all `parts` but the head begin with
    `base`. `otherwise` are links to tensors of other shapes, of some files, and `unused` patterns of tensors that are
    not read.
    """

    section: Callable[[Fields], DecoderConfig]
    links: Callable[[DecoderConfig], Iterable[Link]]
    without_effect: frozenset[str]
    otherwise: Callable[[DecoderConfig], Iterable[Link]] = lambda _section: ()
    base: str = "model."
    parts: tuple[str, ...] = ("embed_tokens.", "layers.", "norm.")
    unused: tuple[str, ...] = ()

    def spelling(self, into: str, *prefixes: str) -> Spelling:
        """How names are spelled that begin with `into` in links, and after one of the `prefixes` in files.

        A file of the decoder alone may lack its base, and transformers' own base is `model.`.
        """
        bases = {one for prefix in prefixes for one in (prefix, f"{prefix}model.", f"{prefix}{self.base}")}
        return moved(self.parts, into, *sorted(bases))
