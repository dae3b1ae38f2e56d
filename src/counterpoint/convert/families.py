"""The families of models whose checkpoints can be read and written, by the `model_type` of their config.json."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

from counterpoint.convert.blocks import Blocks
from counterpoint.convert.fields import Fields
from counterpoint.convert.hybrid import hybrid_links, hybrid_section
from counterpoint.convert.known import KNOWN
from counterpoint.convert.links import Link
from counterpoint.errors import CheckpointError
from counterpoint.families.decoder.spec import DecoderConfig


@final
@dataclass(frozen=True, slots=True)
class Family:
    """How a family's config.json becomes a section, and that the links of its tensors."""

    section: Callable[[Fields], DecoderConfig]
    links: Callable[[DecoderConfig], Iterable[Link]]


def _family(blocks: Blocks) -> Family:
    return Family(blocks.section, blocks.links)


_QWEN2_VL = Blocks(qkv_bias=True, own_head_dim=False, axes=(16, 24, 24))

FAMILIES: Mapping[str, Family] = {
    "llama": _family(Blocks(bias=True)),
    "qwen2": _family(Blocks(qkv_bias=True)),
    "qwen2_vl_text": _family(_QWEN2_VL),
    "qwen2_5_vl_text": _family(_QWEN2_VL),
    "qwen3": _family(Blocks(qk_norm=True)),
    "qwen3_vl_text": _family(Blocks(qk_norm=True, axes=(24, 20, 20), interleaved=True)),
    "qwen3_moe": _family(Blocks(qk_norm=True, experts=True)),
    "nemotron_h": Family(hybrid_section, hybrid_links),
}


def family_named(name: str) -> Family:
    """The family of this `model_type`; raises CheckpointError."""
    if name not in FAMILIES:
        raise CheckpointError(f"Model type {name!r} is none of {', '.join(FAMILIES)}: choose a model of one of these.")
    return FAMILIES[name]


def decoder_of(config: Mapping[str, Any]) -> DecoderConfig:
    """The decoder that the content of a config.json describes; raises CheckpointError."""
    fields = Fields(config, known=KNOWN)
    section = family_named(fields.text("model_type")).section(fields)
    fields.refuse_rest()
    return section
