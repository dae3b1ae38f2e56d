"""What descriptions and names of vision towers have in common."""

import math
from collections.abc import Iterator
from typing import Literal

from counterpoint.convert.fields import Fields
from counterpoint.convert.links import Joined, Link

TowerActivation = Literal["gelu", "gelu_tanh", "quick_gelu"]

_ACTIVATIONS: dict[str, TowerActivation] = {
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
}


def activation_of(fields: Fields, key: str = "hidden_act") -> TowerActivation:
    """The activation of an MLP; raises CheckpointError."""
    fields.demand(key, *_ACTIVATIONS)
    return _ACTIVATIONS[fields.text(key)]


def heads_of(fields: Fields, key: str, hidden: int) -> int:
    """Number of attention heads, a divisor of the width; raises CheckpointError."""
    heads = fields.integer(key)
    if hidden % heads:
        raise fields.unlike(key, heads, f"a divisor of the width, {hidden},")
    return heads


def side_of(fields: Fields, key: str) -> int:
    """The side of a square table of positions from its number of entries; raises CheckpointError."""
    entries = fields.integer(key)
    side = math.isqrt(entries)
    if side**2 != entries:
        raise fields.unlike(key, entries, "a square number")
    return side


def fused_qkv(ours: str, theirs: str, hidden: int) -> Iterator[Link]:
    """Links of queries, keys and values that are concatenated in one matrix and one vector."""
    for kind in ("weight", "bias"):
        yield Joined(tuple(f"{ours}.{x}.{kind}" for x in "qkv"), (f"{theirs}.{kind}",), (hidden,) * 3)
