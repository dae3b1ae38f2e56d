"""A simple layout of an imported model on some ranks."""

from collections.abc import Mapping
from math import gcd, prod
from typing import Any, NamedTuple, final

from counterpoint.convert.composite import LANGUAGE
from counterpoint.kinds.family import Model
from counterpoint.plan.model_facts import ModelFacts

STATE_BYTES = 16
"""Of a trained parameter with AdamW: value, gradient and two moments in float32."""

_GIB = 2**30
_SHARE = 0.8
"""Of a rank's memory that parameters, gradients and optimizer state may take; the rest is for activations."""


@final
class Layouts(NamedTuple):
    """The section `layout` of each module, whether layers are recomputed, and why, in words."""

    sections: Mapping[str, dict[str, Any]]
    recompute: bool
    why: tuple[str, ...]


def parameters_of(facts: ModelFacts) -> int:
    """Parameters of a module."""
    return sum(prod(shape) for part in facts.parts for _name, shape in part.tensors)


def layouts_of(facts: Mapping[str, ModelFacts], models: Mapping[str, Model], ranks: int, memory_gib: float) -> Layouts:
    """All modules on all ranks: parameters sharded over data-parallel ranks first, then tensor parallelism.

    Gathered parameters are freed between uses where `memory_gib` of a rank does not hold them beside the sharded state;
    tp doubles, as far as heads and widths allow, while the largest gathered part takes an eighth of a rank's memory.
    """
    memory = memory_gib * _GIB
    total = sum(map(parameters_of, facts.values()))
    state, gathered = STATE_BYTES * total / ranks, 2 * total if ranks > 1 else 0
    reshard = ranks > 1 and state + gathered > _SHARE * memory
    tp = _tp(facts, models, ranks, memory) if reshard else 1
    sections = {name: _section(name, models[name], ranks, tp, reshard) for name in facts}
    each = f"{state / _GIB:.3g} GiB of each rank's {memory_gib:g} GiB for parameters, gradients and AdamW's moments"
    why = ["All modules are on all ranks; their state is sharded over data-parallel ranks (FSDP2):", f"{each}."]
    if reshard:
        why.append("reshard frees gathered parameters after each use, since all of them do not fit beside it.")
    if tp > 1:
        why.append(f"tp {tp} cuts the largest part of language, which would take an eighth of a rank's memory.")
    if state > _SHARE * memory:
        needed = -(-STATE_BYTES * total // max(1, int(_SHARE * memory)))
        why.append(f"That does not fit: use {needed} ranks or more (--world-size), or train a part (modules.*.train).")
    return Layouts(sections, total > 10**9, tuple(why))


def _tp(facts: Mapping[str, ModelFacts], models: Mapping[str, Model], ranks: int, memory: float) -> int:
    """Tensor-parallel ranks of the language model."""
    largest = max(sum(prod(shape) for _name, shape in part.tensors) for part in facts[LANGUAGE].parts)
    section = models[LANGUAGE].section
    widths = [section.heads, section.ffn or section.heads]
    tp = 1
    while 6 * largest / tp > memory / 8 and ranks % (2 * tp) == 0 and all(width % (2 * tp) == 0 for width in widths):
        tp *= 2
    return tp


def _section(name: str, model: Model, ranks: int, tp: int, reshard: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"ranks": list(range(ranks))}
    if name == LANGUAGE and tp > 1:
        found["tp"] = tp
    moe = model.section.moe if name == LANGUAGE else None
    if moe is not None and (ep := gcd(moe.experts, ranks // tp)) > 1:
        found["expert"] = {"ep": ep}
    return found | ({"reshard": True} if reshard else {})
