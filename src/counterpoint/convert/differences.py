"""Where two decoders differ in what the values of their tensors mean, by the keys of the config."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from counterpoint.plan.sizes import DecoderSizes, MambaSizes, MoeSizes

Difference = tuple[str, Any, Any]
"""A key below `model`, the one's value and the other's."""

_USED_BY = {
    "heads": "*", "kv_heads": "*", "head_dim": "*", "rope_theta": "*", "rope_sections": "*", "rope_interleaved": "*",
    "qk_norm": "*", "qkv_bias": "*", "ffn": "-", "mamba": "M", "moe": "E",
}  # fmt: skip
"""Sizes that mean nothing in a decoder without layers of this kind."""

_FREE = {"inserts", "chunk", "balance", "mtp"}
"""Sizes that may change at any time: where features join, how Mamba-2 is computed, how a loss is weighed; and depths of
multi-token prediction, whose parameters have names of their own."""


def differences(ours: DecoderSizes, theirs: DecoderSizes) -> Iterator[Difference]:
    """The keys in which two decoders differ so that values of the one are wrong in the other."""
    if ours.pattern != theirs.pattern:
        yield "pattern", ours.pattern, theirs.pattern
        return
    for field in fields(DecoderSizes):
        key = field.name
        if key in _FREE or _USED_BY.get(key, ours.pattern[:1]) not in ours.pattern:
            continue
        one, other = getattr(ours, key), getattr(theirs, key)
        if isinstance(one, MambaSizes | MoeSizes):
            yield from ((f"{key}.{name}", *values) for name, *values in _below(one, other))
        elif one != other:
            yield key, one, other


def _below(ours: Any, theirs: Any) -> Iterator[Difference]:
    for field in fields(ours):
        one, other = getattr(ours, field.name), getattr(theirs, field.name)
        # A number of the expert bias's rate is how it moves; without one there is no bias.
        is_same = (one is None) == (other is None) if field.name == "bias_rate" else one == other
        if field.name not in _FREE and not is_same:
            yield field.name, one, other
