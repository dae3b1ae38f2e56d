"""The work of a training step by part: forward, gradients of inputs and of weights (arXiv:2104.04473).

Gradients of a product cost as much as the product, once for its inputs and once for its weight; query-key pairs have
no weight, and their backward costs twice their forward. Gradients that no trained parameter needs are not computed.
Activation recomputation does not count.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import final

from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.cost import Load
from counterpoint.plan.part_facts import PartFacts
from counterpoint.plan.plan import Plan
from counterpoint.plan.trainability import TrainedPart

_BRANCHES = ("taps.", "inserts.")
"""Parts beside the chain: they feed no rows to the next layer, or have none of their own."""


@final
@dataclass(frozen=True, slots=True)
class PartWork:
    """The work of one part, in FLOPs as counted by its facts.

    `inputs` and `weights` are the shares of its products whose input and weight gradients are computed;
    `has_pairs_back` says whether gradients go back between rows.
    """

    facts: PartFacts
    inputs: float
    weights: float
    has_pairs_back: bool

    def forward(self, load: Load) -> float:
        """FLOPs of forward."""
        return self.facts.flops_of_rows(load) + self.facts.flops_of_pairs(load)

    def input_gradients(self, load: Load) -> float:
        """FLOPs of the gradients by what enters it, and of those between rows."""
        between = 2.0 * self.facts.flops_of_pairs(load) if self.has_pairs_back else 0.0
        return self.inputs * self.facts.flops_of_rows(load) + between

    def weight_gradients(self, load: Load) -> float:
        """FLOPs of the gradients by its weights."""
        return self.weights * self.facts.flops_of_rows(load)


def works_of(plan: Plan) -> dict[str, tuple[PartWork, ...]]:
    """The work of every part of every module."""
    return {module: tuple(_works(plan, module)) for module in plan.graph.modules}


def step_flops(works: Iterable[PartWork], load: Load) -> float:
    """FLOPs of a whole step on a load: forward and gradients."""
    return sum(work.forward(load) + work.input_gradients(load) + work.weight_gradients(load) for work in works)


def model_flops(plan: Plan, batch: BatchPlan) -> dict[str, float]:
    """Floating-point operations of one training step per module, including the gradients that are needed.

    Activation recomputation is not counted.
    """
    flops, works = {}, works_of(plan)
    for module, rounds in batch.shares.items():
        rows = chain.from_iterable(lanes.lengths(lane) for lanes in rounds for lane in range(len(lanes)))
        flops[module] = step_flops(works[module], plan.facts[module].load(rows))
    return flops


def _works(plan: Plan, module: str) -> Iterator[PartWork]:
    parts, trained = plan.facts[module].parts, _trained(plan, module)
    is_reached = _enters(plan, module)
    for part, own in zip(parts, trained, strict=True):
        if is_reached:
            inputs, has_pairs_back = 1.0, True
        else:
            inputs, has_pairs_back = own.inside, own.is_between
        yield PartWork(part, inputs, own.weights, has_pairs_back)
        is_reached |= own.is_trained and not part.name.startswith(_BRANCHES)
        is_reached |= part.name in _deep(plan, module)


def _trained(plan: Plan, module: str) -> tuple[TrainedPart, ...]:
    """What is trained of each part; a tied head counts as the embedding does."""
    parts = plan.facts[module].parts
    trained = plan.trained.get(module, (TrainedPart.whole(1, is_trained=True),) * len(parts))
    is_tied = plan.facts[module].is_tied
    return tuple(
        _tied(trained[0]) if is_tied and part.name == "head" else own for part, own in zip(parts, trained, strict=True)
    )


def _tied(embedding: TrainedPart) -> TrainedPart:
    return replace(TrainedPart.whole(0, is_trained=embedding.is_trained), inside=0.0)


def _enters(plan: Plan, module: str) -> bool:
    """Whether gradients go back through the rows that enter a module."""
    return any(_leaves(plan, edge.source) for edge in plan.graph.edges if edge.target == module)


def _leaves(plan: Plan, module: str) -> bool:
    """Whether gradients go back into a module from what leaves its last part."""
    parts, trained = plan.facts[module].parts, _trained(plan, module)
    return _enters(plan, module) or any(
        own.is_trained for part, own in zip(parts, trained, strict=True) if not part.name.startswith(_BRANCHES)
    )


def _deep(plan: Plan, module: str) -> frozenset[str]:
    """The parts where features of another depth enter whose gradients are needed."""
    return frozenset(
        f"inserts.{into}"
        for edge in plan.graph.edges
        if edge.target == module
        for after, into in edge.depths
        if _taps(plan, edge.source, after)
    )


def _taps(plan: Plan, module: str, after: int) -> bool:
    """Whether gradients go back into a module from features after one of its layers."""
    names = [part.name for part in plan.facts[module].parts]
    stop, trained = names.index(f"layers.{after}") + 1, _trained(plan, module)
    before = [own for name, own in zip(names[:stop], trained[:stop], strict=True) if not name.startswith(_BRANCHES)]
    return (
        _enters(plan, module)
        or any(own.is_trained for own in before)
        or trained[names.index(f"taps.{after}")].is_trained
    )
