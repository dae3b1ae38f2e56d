"""The plan: placement, schedule templates and communicators of a run, and what a step's batch makes of them."""

import itertools
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from counterpoint.plan.action import Action, Direction
from counterpoint.plan.activations import KEEPS_ALL, ActivationPolicy
from counterpoint.plan.batch import BatchPlan, ModuleRows, plan_batch
from counterpoint.plan.communicators import EXPERT_AXES, Communicator, communicators
from counterpoint.plan.erase import Erasure
from counterpoint.plan.further_loss import FurtherLoss
from counterpoint.plan.graph import Graph, Link, Node, stage_links, stage_nodes
from counterpoint.plan.layout import Layout
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.plan.peers import Meetings, Rounds, meetings
from counterpoint.plan.placement import Placement
from counterpoint.plan.route import Route, plan_route
from counterpoint.plan.samples import Pack
from counterpoint.plan.schedule import SCHEDULES, Schedule
from counterpoint.plan.stages import EncoderOrder, StageCosts, Stages
from counterpoint.plan.trainability import PartUpdate, TrainedPart


class Widths(NamedTuple):
    """Columns of a module's rows: inside it, of those that leave, of those that enter (None: the same as inside)."""

    inside: int
    leaving: int
    entering: int | None = None


@dataclass(frozen=True)
class Plan:
    """Everything static about a run: pure data, the same on every rank.

    `facts` are the models' and `rows` what a batch plan needs of them. `splits[module][stage]` is the run of parts
    (start, stop) of a stage; `dtype` is the name of the dtype in which rows travel. An encoder takes `group` of the
    step's microbatches at once; `encoder` and `buffer` say when it runs. Modules that no gradient reaches compute
    `run_ahead` steps ahead. `loss` is the kind of the sink's loss. `trained[module]` says what is trained of each part;
    a module that is not listed is trained as a whole. `recomputed[module]` are the kinds of layers, by their letters,
    under activation recomputation, `activations[module]` what its layers keep else. `weights[module]` is the relative
    cost of a forward of its stages; `stage_costs[module][stage]`, of all modules or of none, takes its place.
    `updates[module]` says what the optimizer does to each part; it lacks modules
    without that. `losses` are modules' losses beside the main one.
    """

    placement: Placement
    graph: Graph
    facts: dict[str, ModelFacts]
    rows: dict[str, ModuleRows]
    splits: dict[str, tuple[tuple[int, int], ...]]
    widths: dict[str, Widths]
    kind: str
    microbatches: int
    dtype: str = "float32"
    group: int = 1
    encoder: EncoderOrder = "just_in_time"
    buffer: int | None = None
    run_ahead: int = 0
    loss: str = "next_token"
    trained: dict[str, tuple[TrainedPart, ...]] = field(default_factory=dict)
    recomputed: dict[str, frozenset[str]] = field(default_factory=dict)
    activations: dict[str, ActivationPolicy] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    stage_costs: dict[str, tuple[StageCosts, ...]] = field(default_factory=dict)
    losses: dict[str, tuple[FurtherLoss, ...]] = field(default_factory=dict)
    updates: dict[str, tuple[PartUpdate, ...]] = field(default_factory=dict)

    @cached_property
    def layouts(self) -> dict[str, Layout]:
        """Layouts by module name."""
        return {layout.module: layout for layout in self.placement.layouts}

    @cached_property
    def stages(self) -> Stages:
        """Nodes, links and ranks on which schedules are built."""
        numbers = {module: layout.stages for module, layout in self.layouts.items()}
        nodes = stage_nodes(self.graph, numbers)
        links = stage_links(self.graph, numbers, self.stage_of)
        trained = frozenset(node for node in nodes if self._trains(node))
        stages = Stages(
            nodes=nodes,
            links=links,
            ranks={node: self.layouts[node.module].stage_ranks(node.stage) for node in nodes},
            groups={module: self.group for module in self.graph.modules if module != self.sink},
            chunks={module: layout.chunks for module, layout in self.layouts.items()},
            weights=self.weights,
            costs={Node(name, stage): costs for name, of in self.stage_costs.items() for stage, costs in enumerate(of)},
            trained=trained,
            encoder=self.encoder,
            buffer=self.buffer,
        )
        waiting = {self.sink, *(node.module for node in nodes if stages.has_backward(node))}
        ahead = dict.fromkeys((m for m in self.graph.modules if m not in waiting), self.run_ahead)
        return replace(stages, ahead={module: steps for module, steps in ahead.items() if steps})

    def stage_of(self, module: str, layer: int) -> int:
        """The pipeline stage that holds a layer of a module."""
        names = [part.name for part in self.facts[module].parts]
        place = names.index(f"layers.{layer}")
        return next(number for number, (start, stop) in enumerate(self.splits[module]) if start <= place < stop)

    def is_recomputed(self, module: str, part: str) -> bool:
        """Whether a part runs again in backward as a whole."""
        kinds = next(facts.kinds for facts in self.facts[module].parts if facts.name == part)
        return bool(kinds) and self.recomputed.get(module, frozenset()).issuperset(kinds)

    def kept_elements(self, module: str, part: str) -> int:
        """Values per row that a part keeps for backward, wherever they wait."""
        facts = next(facts for facts in self.facts[module].parts if facts.name == part)
        policy = self.activations.get(module, KEEPS_ALL)
        if self.is_recomputed(module, part):
            return self.facts[module].hidden + ("attention" in policy.keeps) * facts.attended_elements
        return facts.activation_elements - sum(count for name, count in facts.discardable if name in policy.discards)

    def is_offloaded(self, module: str, part: str) -> bool:
        """Whether what a part keeps for backward waits in the host's memory."""
        facts = next(facts for facts in self.facts[module].parts if facts.name == part)
        return bool(facts.kinds) and self.activations.get(module, KEEPS_ALL).offloads

    def _trains(self, node: Node) -> bool:
        parts = self.trained.get(node.module)
        if parts is None:
            return True
        start, stop = self.splits[node.module][node.stage]
        # A copy of the embedding on another stage is trained if the embedding, the first part, is.
        has_copy = any(self.tie(node.module, rank) for rank in self.layouts[node.module].stage_ranks(node.stage))
        held = (*parts[start:stop], *(parts[:1] if has_copy else ()))
        return any(part.is_trained for part in held)

    @cached_property
    def schedule(self) -> Schedule:
        """The training template, with every optional action."""
        return SCHEDULES[self.kind].build(self.stages, self.microbatches)

    @cached_property
    def evaluation(self) -> Schedule:
        """The evaluation template: forwards only."""
        return SCHEDULES["forward"].build(self.stages, self.microbatches)

    @cached_property
    def communicators(self) -> tuple[Communicator, ...]:
        """Communicators in creation order."""
        ranks = [(layout.module, rank) for layout in self.placement.layouts for rank in layout.ranks]
        ties = [self.tie(module, rank) for module, rank in ranks]
        experts = [group for node in self.stages.nodes if self.has_experts(node) for group in self._expert_groups(node)]
        pooled = [
            self.layouts[node.module].group("lane", rank)
            for node in self.stages.nodes
            if self.pools(node)
            for rank in self.stages.ranks[node]
        ]
        updates = [self.stages.ranks[node] for node in self.stages.nodes if self.exchanges(node)]
        more = tuple(group for group in (*ties, *experts, *pooled, *updates) if group)
        return communicators(self.placement, self.stages.links, more)

    def exchanges(self, node: Node) -> bool:
        """Whether the ranks of a stage exchange anything to update its parameters."""
        start, stop = self.splits[node.module][node.stage] if node.module in self.updates else (0, 0)
        return any(part.exchanges for part in self.updates.get(node.module, ())[start:stop])

    def stage_ranks(self, module: str, rank: int) -> tuple[int, ...]:
        """The ranks of the stages of a module that a rank has, which are the same of all of them."""
        layout = self.layouts[module]
        return layout.stage_ranks(layout.coordinate(rank).pp)

    def has_experts(self, node: Node) -> bool:
        """Whether a stage holds a mixture of experts."""
        if node.module not in self.facts:
            return False
        start, stop = self.splits[node.module][node.stage]
        return any(part.expert_parameters for part in self.facts[node.module].parts[start:stop])

    def pools(self, node: Node) -> bool:
        """Whether the forward of a stage sums the rows of items over the ranks of a lane, for a loss of their means."""
        is_last = node.stage == self.layouts[node.module].stages - 1
        return is_last and any(loss.is_pooled for loss in self.losses.get(node.module, ()))

    def _expert_groups(self, node: Node) -> list[tuple[int, ...]]:
        layout = self.layouts[node.module]
        return [layout.group(axis, rank) for axis in EXPERT_AXES for rank in self.stages.ranks[node]]

    def tie(self, module: str, rank: int) -> tuple[int, ...]:
        """The two ranks that train the same shard of the embedding on different stages, if `rank` is one of them.

        The last stage has a copy for a tied head, and for multi-token prediction. An untrained one is not tied.
        """
        layout, facts = self.layouts[module], self.facts.get(module)
        column = layout.group("pp", rank)
        ends = (column[0], column[-1])
        has_copy = facts is not None and facts.reads_words_last and layout.pp > 1
        parts = self.trained.get(module)
        is_trained = parts is None or parts[0].is_trained
        return ends if has_copy and is_trained and rank in ends else ()

    @property
    def sink(self) -> str:
        """The module whose rows are documents and carry the loss."""
        return self.graph.sinks[0]

    def width(self, link: Link) -> int:
        """Columns of the rows that a link's source gives."""
        widths = self.widths[link.source.module]
        return widths.inside if link.is_hop else widths.leaving

    def expected_width(self, link: Link) -> int:
        """Columns of the rows that a link's target reads."""
        widths = self.widths[link.target.module]
        return widths.inside if link.is_hop or link.port or widths.entering is None else widths.entering

    @cached_property
    def meetings(self) -> Meetings:
        """Which lanes of which modules can meet, in any batch."""
        return meetings(self.graph, self.layouts, self.stages.links)

    @cached_property
    def rounds(self) -> dict[Link, Rounds]:
        """In which rounds the ranks of each link exchange rows, alike forward and backward."""
        ranks = self.stages.ranks
        return {
            link: Rounds.of(self.pairs(link, Direction.FORWARD), ranks[link.source], ranks[link.target])
            for link in self.stages.links
        }

    def pairs(self, link: Link, direction: Direction) -> tuple[tuple[int, int], ...]:
        """All (sender, receiver) pairs of different ranks that a link can use, whatever the batch."""
        if link not in self._pairs:
            self._pairs[link] = self._hop(link) if link.is_hop else self.meetings.pairs(link)
        pairs = self._pairs[link]
        return pairs if direction is Direction.FORWARD else tuple((b, a) for a, b in pairs)

    def _hop(self, link: Link) -> tuple[tuple[int, int], ...]:
        ends = zip(self.stages.ranks[link.source], self.stages.ranks[link.target], strict=True)
        return tuple((a, b) for a, b in ends if a != b)

    @cached_property
    def _pairs(self) -> dict[Link, tuple[tuple[int, int], ...]]:
        return {}

    def nodes_of(self, rank: int) -> tuple[Node, ...]:
        """The stages that a rank computes."""
        return tuple(node for node in self.stages.nodes if rank in self.stages.ranks[node])

    def batch(self, step: int, packs: tuple[Pack, ...]) -> BatchPlan:
        """The batch plan of a step."""
        return plan_batch(step, packs, self.rows, self.sink, self.microbatches, self.meetings)

    def route(self, batch: BatchPlan, link: Link, exchange: int) -> Route:
        """The forward route of an exchange of a link; gradients go back along the same copies."""
        return plan_route(batch, link, self.layouts, self.stages, exchange)

    def of_step(self, template: Schedule, batch: BatchPlan | None, ahead: BatchPlan | None = None) -> Schedule:
        """A template without the actions that have no row: this step's in `batch`, those that run ahead in `ahead`.

        Without `batch` it is the prologue, which only runs ahead; without `ahead` the epilogue.
        """
        return template.keep(Erasure(self.stages, batch, ahead).keeps)

    def program(
        self, template: Schedule, rank: int, batch: BatchPlan | None, ahead: BatchPlan | None = None
    ) -> tuple[Action, ...]:
        """One rank's program of a step, as in `of_step`, computed without the programs of other ranks."""
        return tuple(filter(Erasure(self.stages, batch, ahead).keeps, template.programs[rank]))


def even_split(parts: int, stages: int) -> tuple[tuple[int, int], ...]:
    """Cut `parts` into `stages` consecutive runs whose lengths differ by at most one, longer ones first."""
    size, longer = divmod(parts, stages)
    bounds = [stage * size + min(stage, longer) for stage in range(stages + 1)]
    return tuple(itertools.pairwise(bounds))
