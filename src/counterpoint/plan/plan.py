"""The plan: placement, schedule templates and communicators of a run, and what a step's batch makes of them."""

import itertools
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from counterpoint.plan.action import Action, Direction
from counterpoint.plan.activations import KEEPS_ALL, ActivationPolicy
from counterpoint.plan.batch import BatchPlan, ModuleRows
from counterpoint.plan.collectives import Collectives, collectives_of
from counterpoint.plan.communicators import EXPERT_AXES, Communicator, communicators, transfer_name
from counterpoint.plan.cost import CostTable
from counterpoint.plan.digest import digest_of
from counterpoint.plan.erase import Erasure
from counterpoint.plan.further_loss import FurtherLoss
from counterpoint.plan.graph import Graph, Link, Node, stage_links, stage_nodes
from counterpoint.plan.kept import ATTENTION, Kept, Path
from counterpoint.plan.layout import Layout
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.plan.peers import Meetings, Pair, Pattern, Rounds, meetings
from counterpoint.plan.placement import Placement
from counterpoint.plan.plan_batch import plan_batch
from counterpoint.plan.route import Route, plan_route, rows_between
from counterpoint.plan.samples import Pack
from counterpoint.plan.schedule import SCHEDULES, Schedule
from counterpoint.plan.slots import SlotTable
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
    (start, stop) of a stage; `dtype` is the name of the dtype in which rows are computed and travel, `stored` that of
    parameters, `reduced` that in which gradients are summed; `path` says which code computes layers. Under tp a
    parameter is cut into as many pieces as ranks, or into those in `pieces[module]`. An encoder takes `group` of the
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
    stored: str = "float32"
    reduced: str = "float32"
    path: Path = "plain"
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
    pieces: dict[str, dict[str, int]] = field(default_factory=dict)

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
            collectives={node: self._collectives(node) for node in nodes},
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

    def kept(self, module: str, part: str) -> tuple[Kept, ...]:
        """What a part keeps for backward, wherever it waits; of a recomputed layer that is its input."""
        every = self.kept_while_running(module, part)
        if not self.is_recomputed(module, part):
            return every
        keeps_costly = ATTENTION in self.activations.get(module, KEEPS_ALL).keeps
        costly = tuple(one for one in every if one.of == ATTENTION and keeps_costly)
        return (Kept(self.facts[module].hidden, cut="rows"), *costly)

    def kept_while_running(self, module: str, part: str) -> tuple[Kept, ...]:
        """The same of a part whose backward comes right after, when a recomputed layer has run again."""
        facts = next(facts for facts in self.facts[module].parts if facts.name == part)
        # Only layers make their cheap parts again.
        policy = self.activations.get(module, KEEPS_ALL) if facts.kinds else KEEPS_ALL
        return tuple(one for one in facts.kept.on(self.path) if one.is_kept(policy))

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
        has_copy = node.stage % self.layouts[node.module].pp in (0, self.layouts[node.module].pp - 1)
        has_copy &= self.is_tied(node.module)
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
        """Communicators of more than one rank in creation order."""
        ties = [tie for module in self.layouts for tie in self._ties(module)]
        experts = [group for node in self.stages.nodes if self.has_experts(node) for group in self._expert_groups(node)]
        pooled = [g for node in self.stages.nodes if self.pools(node) for g in self._stage_groups(node, "lane")]
        updates = [self.stages.ranks[node] for node in self.stages.nodes if self.exchanges(node)]
        return communicators(self.placement, self.stages.links, (*ties, *experts, *pooled, *updates))

    def transfers_of(self, rank: int) -> tuple[str, ...]:
        """The names of the communicators of a rank's links, those of rows that never leave the rank included."""
        nodes = frozenset(self.nodes_of(rank))
        links = [link for link in self.stages.links if link.source in nodes or link.target in nodes]
        names = (transfer_name(self.placement, link, direction, rank) for link in links for direction in Direction)
        return tuple(dict.fromkeys(names))

    @cached_property
    def digest(self) -> str:
        """The digest of everything static: ranks with the same one have planned the same."""
        # Ranks with the same stages share a program.
        programs = {id(program): program for program in self.schedule.programs.values()}
        shared = {number: place for place, number in enumerate(programs)}
        of_rank = tuple((rank, shared[id(program)]) for rank, program in sorted(self.schedule.programs.items()))
        return digest_of((self, tuple(programs.values()), of_rank))

    def exchanges(self, node: Node) -> bool:
        """Whether the ranks of a stage exchange anything to update its parameters."""
        return node in self._exchanging

    @cached_property
    def _exchanging(self) -> frozenset[Node]:
        nodes = (node for node in self.stages.nodes if node.module in self.updates)
        updates = {node: self.updates[node.module][slice(*self.splits[node.module][node.stage])] for node in nodes}
        return frozenset(node for node, parts in updates.items() if any(part.exchanges for part in parts))

    def stage_ranks(self, module: str, rank: int) -> tuple[int, ...]:
        """The ranks of the stages of a module that a rank has, which are the same of all of them."""
        return self.layouts[module].group("stage", rank)

    def has_experts(self, node: Node) -> bool:
        """Whether a stage holds a mixture of experts."""
        return node in self._with_experts

    @cached_property
    def _with_experts(self) -> frozenset[Node]:
        facts = ((module, self.facts[module]) for module in self.layouts if module in self.facts)
        return frozenset(
            Node(module, stage)
            for module, of in facts
            for stage, bounds in enumerate(self.splits[module])
            if any(part.expert_parameters for part in of.parts[slice(*bounds)])
        )

    def _collectives(self, node: Node) -> Collectives:
        layout = self.layouts[node.module]
        flags = self.has_experts(node), self.pools(node)
        return collectives_of(layout, node.stage % layout.pp, has_experts=flags[0], pools=flags[1])

    def pools(self, node: Node) -> bool:
        """Whether the forward of a stage sums the rows of items over the ranks of a lane, for a loss of their means."""
        is_last = node.stage == self.layouts[node.module].stages - 1
        return is_last and any(loss.is_pooled for loss in self.losses.get(node.module, ()))

    def _expert_groups(self, node: Node) -> list[tuple[int, ...]]:
        return [group for axis in EXPERT_AXES for group in self._stage_groups(node, axis)]

    def _stage_groups(self, node: Node, axis: str) -> tuple[tuple[int, ...], ...]:
        """The groups of an axis within a stage."""
        layout = self.layouts[node.module]
        return layout.groups(axis, node.stage % layout.pp)

    def tie(self, module: str, rank: int) -> tuple[int, ...]:
        """The two ranks that train the same shard of the embedding on different stages, if `rank` is one of them.

        The last stage has a copy for a tied head, and for multi-token prediction. An untrained one is not tied.
        """
        if not self.is_tied(module):
            return ()
        column = self.layouts[module].group("pp", rank)
        ends = (column[0], column[-1])
        return ends if rank in ends else ()

    def is_tied(self, module: str) -> bool:
        """Whether ranks of two stages train the same embedding."""
        facts, parts = self.facts.get(module), self.trained.get(module)
        has_copy = facts is not None and facts.reads_words_last and self.layouts[module].pp > 1
        return has_copy and (parts is None or parts[0].is_trained)

    def _ties(self, module: str) -> list[tuple[int, ...]]:
        columns = self.layouts[module].groups("pp") if self.is_tied(module) else ()
        return [(column[0], column[-1]) for column in columns]

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
    def patterns(self) -> dict[Link, Pattern]:
        """Which ranks meet at each link, in any batch."""
        return {link: self.meetings.pattern(link) for link in self.stages.links}

    @cached_property
    def rounds(self) -> dict[Link, Rounds]:
        """In which rounds the ranks of each link exchange rows, alike forward and backward."""
        return {link: Rounds.of(pattern) for link, pattern in self.patterns.items()}

    def peers(self, link: Link, direction: Direction, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ranks to which a rank can send over a link and those from which it can receive, whatever the batch."""
        pattern = self.patterns[link]
        forward = pattern.receivers_of(rank), pattern.senders_of(rank)
        return forward if direction is Direction.FORWARD else (forward[1], forward[0])

    def pairs(self, link: Link, direction: Direction) -> tuple[tuple[int, int], ...]:
        """All (sender, receiver) pairs of different ranks that a link can use, whatever the batch."""
        pairs = self.patterns[link].pairs()
        return pairs if direction is Direction.FORWARD else tuple((b, a) for a, b in pairs)

    def nodes_of(self, rank: int) -> tuple[Node, ...]:
        """The stages that a rank computes."""
        return self.stages.nodes_of(rank)

    @cached_property
    def slots(self) -> SlotTable:
        """The communicators of every rank's collectives, by pattern."""
        return SlotTable(self)

    @cached_property
    def remembered(self) -> dict[str, object]:
        """What other rooms found out about this plan, so that they need not do so again; not part of its value."""
        return {}

    def batch(self, step: int, packs: tuple[Pack, ...]) -> BatchPlan:
        """The batch plan of a step."""
        return plan_batch(step, packs, self.rows, self.sink, self.microbatches, self.meetings, self._costs)

    @cached_property
    def _costs(self) -> dict[str, CostTable]:
        """The costs of each module's documents or items, whose lengths recur from step to step."""
        return {name: CostTable(rows.cost) for name, rows in self.rows.items()}

    def route(self, batch: BatchPlan, link: Link, exchange: int, rank: int | None = None) -> Route:
        """The forward route of an exchange of a link, or what of it concerns a rank; gradients go back along the same
        copies."""
        return plan_route(batch, link, self.layouts, self.stages, exchange, rank)

    def rows_between(self, batch: BatchPlan, link: Link, exchange: int) -> dict[Pair, int]:
        """The rows of the same route by (source rank, target rank), without those that stay on their rank."""
        return rows_between(batch, link, self.layouts, self.stages, exchange)

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
