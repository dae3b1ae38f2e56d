"""The plan: placement, schedule templates and communicators of a run, and what a step's batch makes of them."""

import itertools
from dataclasses import dataclass
from functools import cached_property

from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer
from counterpoint.plan.batch import BatchPlan, ModuleRows, plan_batch
from counterpoint.plan.communicators import EXPERT_AXES, Communicator, communicators
from counterpoint.plan.graph import Graph, Link, Node, stage_links, stage_nodes
from counterpoint.plan.layout import Layout
from counterpoint.plan.model_facts import ModelFacts, facts_of
from counterpoint.plan.placement import Placement
from counterpoint.plan.route import Route, plan_route
from counterpoint.plan.samples import Pack
from counterpoint.plan.schedule import BUILDERS, Schedule, Stages
from counterpoint.plan.sizes import DecoderSizes, ModelSizes


@dataclass(frozen=True)
class Plan:
    """Everything static about a run: pure data, the same on every rank.

    `sizes` are the models' and `rows` what a batch plan needs of them;
    `splits[module][stage]` is the run of parts (start, stop) of a stage; `widths[module]` is (columns inside the
    module, columns of the rows that leave it); `dtype` is the name of the dtype in which rows travel.
    """

    placement: Placement
    graph: Graph
    sizes: dict[str, ModelSizes]
    rows: dict[str, ModuleRows]
    splits: dict[str, tuple[tuple[int, int], ...]]
    widths: dict[str, tuple[int, int]]
    kind: str
    microbatches: int
    dtype: str = "float32"

    @cached_property
    def layouts(self) -> dict[str, Layout]:
        """Layouts by module name."""
        return {layout.module: layout for layout in self.placement.layouts}

    @cached_property
    def facts(self) -> dict[str, ModelFacts]:
        """What the sizes say about each module."""
        return {module: facts_of(size) for module, size in self.sizes.items()}

    @cached_property
    def stages(self) -> Stages:
        """Nodes, links and ranks on which schedules are built."""
        degrees = {module: layout.pp for module, layout in self.layouts.items()}
        nodes = stage_nodes(self.graph, degrees)
        ranks = {node: self.layouts[node.module].stage_ranks(node.stage) for node in nodes}
        return Stages(nodes, stage_links(self.graph, degrees), ranks)

    @cached_property
    def schedule(self) -> Schedule:
        """The training template, with every optional action."""
        return BUILDERS[self.kind](self.stages, self.microbatches)

    @cached_property
    def evaluation(self) -> Schedule:
        """The evaluation template: forwards only."""
        return BUILDERS["forward"](self.stages, self.microbatches)

    @cached_property
    def communicators(self) -> tuple[Communicator, ...]:
        """Communicators in creation order."""
        ranks = [(layout.module, rank) for layout in self.placement.layouts for rank in layout.ranks]
        ties = [self.tie(module, rank) for module, rank in ranks]
        experts = [group for node in self.stages.nodes if self.has_experts(node) for group in self._expert_groups(node)]
        return communicators(self.placement, self.stages.links, tuple(group for group in (*ties, *experts) if group))

    def has_experts(self, node: Node) -> bool:
        """Whether a stage holds a mixture of experts."""
        sizes = self.sizes.get(node.module)
        if not isinstance(sizes, DecoderSizes) or sizes.moe is None:
            return False
        start, stop = self.splits[node.module][node.stage]
        return any(part.expert_parameters for part in self.facts[node.module].parts[start:stop])

    def _expert_groups(self, node: Node) -> list[tuple[int, ...]]:
        layout = self.layouts[node.module]
        return [layout.group(axis, rank) for axis in EXPERT_AXES for rank in self.stages.ranks[node]]

    def tie(self, module: str, rank: int) -> tuple[int, ...]:
        """The two ranks that hold the same shard of tied embeddings on different stages, if `rank` is one of them."""
        layout, sizes = self.layouts[module], self.sizes.get(module)
        column = layout.group("pp", rank)
        ends = (column[0], column[-1])
        is_tied = isinstance(sizes, DecoderSizes) and sizes.tied and layout.pp > 1
        return ends if is_tied and rank in ends else ()

    @property
    def sink(self) -> str:
        """The module whose rows are documents and carry the loss."""
        return self.graph.sinks[0]

    def width(self, link: Link) -> int:
        """Columns of the rows that cross a link."""
        inside, outside = self.widths[link.source.module]
        return inside if link.is_hop else outside

    def pairs(self, link: Link, direction: Direction) -> tuple[tuple[int, int], ...]:
        """All (sender, receiver) pairs of different ranks that a link can use, whatever the batch."""
        sources, targets = self.stages.ranks[link.source], self.stages.ranks[link.target]
        if link.is_hop:
            pairs = list(zip(sources, targets, strict=True))
        else:
            pairs = [(a, b) for a in sources for b in targets if a != b]
        return tuple(pairs if direction is Direction.FORWARD else [(b, a) for a, b in pairs])

    def nodes_of(self, rank: int) -> tuple[Node, ...]:
        """The stages that a rank computes."""
        return tuple(node for node in self.stages.nodes if rank in self.stages.ranks[node])

    def batch(self, step: int, packs: tuple[Pack, ...]) -> BatchPlan:
        """The batch plan of a step."""
        return plan_batch(step, packs, self.rows, self.sink, self.microbatches)

    def route(self, batch: BatchPlan, link: Link, microbatch: int) -> Route:
        """The forward route of a link in a microbatch; its transpose is the backward one."""
        return plan_route(batch, link, self.layouts, microbatch)

    def of_step(self, template: Schedule, batch: BatchPlan) -> Schedule:
        """A template less the actions that have no row in this batch (design D3)."""

        def keeps(action: Action) -> bool:
            match action:
                case Compute(node=node, microbatch=microbatch):
                    return not batch.is_empty(node.module, microbatch)
                case Transfer(link=link, microbatch=microbatch):
                    return not batch.is_empty(link.source.module, microbatch)
                case Reduce() | Step():
                    return True

        return template.keep(keeps)


def even_split(parts: int, stages: int) -> tuple[tuple[int, int], ...]:
    """Cut `parts` into `stages` consecutive runs whose lengths differ by at most one, longer ones first."""
    size, longer = divmod(parts, stages)
    bounds = [stage * size + min(stage, longer) for stage in range(stages + 1)]
    return tuple(itertools.pairwise(bounds))
