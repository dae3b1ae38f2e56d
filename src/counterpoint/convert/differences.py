"""Where two models of a kind differ in what the values of their tensors mean, by the keys of the config."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any

from counterpoint.plan.sizes import DecoderSizes, MambaSizes, MoeSizes, ProjectorSizes, RopeScaling, TowerSizes

Difference = tuple[str, Any, Any]
"""A key below `model`, the one's value and the other's."""

_USED_BY = {
    "heads": "*", "kv_heads": "*", "head_dim": "*", "rope_theta": "*", "rope_sections": "*", "rope_interleaved": "*",
    "rope_scaling": "*", "qk_norm": "*", "qkv_bias": "*", "ffn": "-", "mamba": "M", "moe": "E",
}  # fmt: skip
"""Sizes that mean nothing in a decoder without layers of this kind."""

_FREE = {"inserts", "chunk", "balance", "mtp"}
"""Sizes that may change at any time: where features join, how Mamba-2 is computed, how a loss is weighed; and depths of
multi-token prediction, whose parameters have names of their own."""

_PROJECTORS = ("projector.", "taps.")
_ABOUT: Mapping[str, tuple[str, ...]] = {
    "projector": _PROJECTORS, "merge": _PROJECTORS, "stack": _PROJECTORS, "out": _PROJECTORS, "taps": ("taps.",),
    "tap_norm": ("taps.",), "final_norm": ("norm.",), "positions": ("embed.positions.", "embed.times."),
    "fit": ("embed.positions.",), "mtp": ("mtp.",),
}  # fmt: skip
"""Keys of a model that are about parameters of these names only."""

_LAYERS = "layers"


def free_keys(ours: Collection[str], theirs: Collection[str]) -> frozenset[str]:
    """Keys in which two models may differ, of the names of the one and of the other that do not begin anew."""
    free = {key for key, prefixes in _ABOUT.items() if not any(n.startswith(prefixes) for n in (*ours, *theirs))}
    return frozenset(free | ({_LAYERS} if _layers(ours) == _layers(theirs) else set()))


def _layers(names: Collection[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith(f"{_LAYERS}.")}


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
            yield key, _as_in_config(one), _as_in_config(other)


def _as_in_config(value: Any) -> Any:
    return asdict(value) if isinstance(value, RopeScaling) else value


def tower_differences(ours: TowerSizes, theirs: TowerSizes, free: Collection[str]) -> Iterator[Difference]:
    """The keys in which two towers of a kind differ likewise, less those that are `free`."""
    for field in fields(theirs):
        key = field.name
        one, other = getattr(ours, key), getattr(theirs, key)
        if key in free or one == other:
            continue
        if isinstance(other, ProjectorSizes):
            yield from _of_projector(one, other, has_norm=(other.norm, theirs.tap_norm) != ("none", "none"))
        else:
            yield key, one, other


def _of_projector(ours: ProjectorSizes, theirs: ProjectorSizes, *, has_norm: bool) -> Iterator[Difference]:
    unused = {*(() if has_norm else ("norm_eps",)), *(() if theirs.kind == "mlp" else ("hidden", "activation"))}
    for field in fields(theirs):
        one, other = getattr(ours, field.name), getattr(theirs, field.name)
        if field.name not in unused and one != other:
            yield f"projector.{field.name}", one, other


def _below(ours: Any, theirs: Any) -> Iterator[Difference]:
    for field in fields(ours):
        one, other = getattr(ours, field.name), getattr(theirs, field.name)
        # A number of the expert bias's rate is how it moves; without one there is no bias.
        is_same = (one is None) == (other is None) if field.name == "bias_rate" else one == other
        if field.name not in _FREE and not is_same:
            yield field.name, one, other
