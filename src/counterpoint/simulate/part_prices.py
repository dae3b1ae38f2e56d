"""What the part of a model costs on a rank that has a share of a batch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

from counterpoint.costs.hardware import Hardware
from counterpoint.costs.host import HostWork
from counterpoint.plan.batch import Share
from counterpoint.plan.graph import Node
from counterpoint.plan.plan import Plan
from counterpoint.plan.work import PartWork
from counterpoint.simulate.operations import Operations, PartOperations, part_operations, setting_of
from counterpoint.simulate.seconds import Seconds, calls_of, kernels_of, seconds_of
from counterpoint.simulate.sizes import BYTES
from counterpoint.simulate.spans import Spans


@final
@dataclass(frozen=True, slots=True)
class Load:
    """The share of a lane, and the rows of it that scores are computed of."""

    share: Share
    scored: int


@final
@dataclass(frozen=True, slots=True)
class PartPrice:
    """A part's forward, gradients of inputs and of weights, the calls of its forward, and the kernels of forward that
    run `again` for the gradients of inputs."""

    forward: Seconds
    inputs: Seconds
    weights: Seconds
    calls: HostWork
    again: int


@final
class PartPrices:
    """The prices of a plan's parts on hardware; with `overlaps` products overlap with the transfer of their rows over
    tp."""

    def __init__(
        self, plan: Plan, hardware: Hardware, works: Mapping[str, tuple[PartWork, ...]], spans: Spans, *, overlaps: bool
    ) -> None:  # fmt: skip
        self._plan, self._hardware, self._works, self._spans = plan, hardware, works, spans
        self._overlaps = overlaps and hardware.device == "cuda"
        self._known: dict[object, PartPrice] = {}
        self._kinds = {module: self._kinds_of(module) for module in works}

    def of(self, rank: int, node: Node, place: int, load: Load) -> PartPrice:
        """The price of the part at a place of its module, on a rank with a load."""
        rows = self._rows(node.module, place, load)
        # Layers of a kind have the same facts but for their names.
        kind = node.module, self._kinds[node.module][place]
        key = (kind, rows, load.share.spans, self._spans.every(node, rank))
        if key not in self._known:
            operations = self._operations(node, self._works[node.module][place], rows, load.share)
            passes = (operations.forward, operations.inputs, operations.weights)
            forward, inputs, weights = (self._seconds(rank, node, one) for one in passes)
            calls = calls_of(operations.forward)
            # On a CPU the tables of collectives have the calls.
            calls = replace(calls, exchanges=0) if self._hardware.device == "cpu" else calls
            self._known[key] = PartPrice(forward, inputs, weights, calls, kernels_of(operations.again))
        return self._known[key]

    def _seconds(self, rank: int, node: Node, operations: Operations) -> Seconds:
        return seconds_of(operations, self._hardware, self._plan.dtype, lambda axis: self._spans.of(node, rank, axis))

    def _operations(self, node: Node, work: PartWork, rows: int, share: Share) -> PartOperations:
        plan, layout = self._plan, self._plan.layouts[node.module]
        setting = setting_of(
            plan, node, work.facts.name, layout, BYTES[plan.dtype], overlaps_products=self._overlaps
        )  # fmt: skip
        # Documents are traded wherever they lie; only a module that reads items knows which are whole on a rank.
        is_whole = layout.cp == 1 or (node.module != plan.sink and _is_whole(share, layout.cp))
        setting = replace(setting, is_whole=is_whole, is_even=share.is_even)
        load = plan.facts[node.module].load(span.rows_in for span in share.spans)
        return part_operations(work, load, rows, setting)

    def _rows(self, module: str, place: int, load: Load) -> int:
        """Rows of a lane that a part computes: nothing reads those without a label of some parts."""
        is_labelled = self._plan.facts[module].parts[place].labelled and self._plan.layouts[module].tp == 1
        return load.scored if is_labelled else load.share.rows_in

    def _kinds_of(self, module: str) -> list[int]:
        """For each part of a module the place of the first one whose work is the same."""
        known: dict[object, int] = {}
        works = self._works[module]
        return [known.setdefault(self._likeness(module, work), place) for place, work in enumerate(works)]

    def _likeness(self, module: str, work: PartWork) -> object:
        facts, plan = work.facts, self._plan
        name = facts.name
        return (
            facts.tensors, facts.flops_per_row, facts.flops_per_pair, facts.flops_per_item, facts.activation_elements,
            facts.hidden_out, facts.mixers, facts.mixtures, facts.scores, work.inputs, work.weights,
            work.has_pairs_back, plan.is_recomputed(module, name), plan.is_offloaded(module, name),
        )  # fmt: skip


def _is_whole(share: Share, cp: int) -> bool:
    """Whether no document, or item, of a lane lies on two of its context-parallel ranks."""
    size = share.rows_in // cp
    return cp == 1 or all(span.row_in // size == (span.row_in + span.rows_in - 1) // size for span in share.spans)
