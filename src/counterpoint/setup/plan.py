"""From a config to its models and its plan: layouts, splits and widths, all pure."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import gcd, prod
from typing import final

from counterpoint.config.graph import entering_width
from counterpoint.config.schema import Config, EdgeConfig, ModuleConfig
from counterpoint.errors import ConfigError
from counterpoint.families import facts_of, family_of, rules_of
from counterpoint.kinds.family import Ends, Model
from counterpoint.losses import LOSSES
from counterpoint.optimizers import OPTIMIZERS
from counterpoint.optimizers.groups import patterns_of
from counterpoint.plan.activations import PARTS, ActivationPolicy
from counterpoint.plan.batch import ModuleRows
from counterpoint.plan.further_loss import FurtherLoss
from counterpoint.plan.graph import Edge, Graph
from counterpoint.plan.kept import Path
from counterpoint.plan.layout import Layout
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.plan.placement import Placement, place
from counterpoint.plan.plan import Plan, Widths, even_split
from counterpoint.plan.stages import StageCosts
from counterpoint.plan.trainability import (
    PartUpdate,
    TrainedPart,
    check_groups,
    check_pattern,
    is_trained,
    trained_parts,
)
from counterpoint.simulate.prices import Execution

Models = Mapping[str, Model]
"""The models of a graph, by module."""

FEWEST_COMPILED_STEPS = 200
"""Of a training with `training.compile: auto`: compilation takes about a minute, and saves some tenths of a second of a
step."""

_STORED_BYTES = {"float32": 4, "float64": 8}
"""Bytes of a stored parameter by its dtype."""


def models_of(config: Config, vocab: int | None) -> dict[str, Model]:
    """The models of a config; `vocab` is the tokenizer's size, for models whose vocab is `tokenizer`.

    Raises ConfigError for problems that only a model's weights or files show.
    """
    for name, module in config.modules.items():
        family_of(module.model).check(f"modules.{name}", module.model, module.layout)
    return {name: Model(module.model, _ends(config, name, vocab)) for name, module in config.modules.items()}


@final
@dataclass(frozen=True)
class Described:
    """What layouts, schedule and recomputation of a config do not change: its graph, and what its models are like."""

    models: Models
    graph: Graph
    facts: Mapping[str, ModelFacts]
    trained: Mapping[str, tuple[TrainedPart, ...]]
    updates: Mapping[str, tuple[PartUpdate, ...]]
    _pieces: dict[tuple[str, int], dict[str, int]] = field(default_factory=dict, repr=False, compare=False)

    def pieces(self, module: str, layout: Layout) -> dict[str, int]:
        """Of the parameters that tp does not cut into as many pieces as it has ranks the number of their pieces."""
        if (module, layout.tp) not in self._pieces:
            self._pieces[module, layout.tp] = pieces_under_tp(self.models[module], self.facts[module], layout)
        return self._pieces[module, layout.tp]


def plan_of(config: Config, models: Models) -> Plan:
    """The plan of a config and its models; raises ConfigError or PlacementError."""
    # The placement needs no model, and its errors come first.
    placement_of(config)
    return lay_out(config, describe(config, models))


def describe(config: Config, models: Models) -> Described:
    """What the models of a config are like, wherever they are laid; raises ConfigError."""
    graph = Graph.build(tuple(config.modules), tuple(_edge(edge) for edge in config.edges))
    facts = {name: facts_of(models[name]) for name in graph.modules}
    for name, module in config.modules.items():
        where, section = f"modules.{name}.optimizer", module.optimizer
        check_groups(f"{where}.groups", facts[name], module.train, patterns_of(section))
        for key, pattern in OPTIMIZERS[section.kind].given_patterns(section):
            check_pattern(f"{where}.{key}", facts[name], pattern)
    stored = config.training.precision.parameters
    return Described(
        models,
        graph,
        facts,
        {name: trained_parts(name, facts[name], module.train) for name, module in config.modules.items()},
        {name: part_updates(facts[name], module, stored) for name, module in config.modules.items()},
    )


def lay_out(config: Config, described: Described) -> Plan:
    """The plan of a config whose models are `described`; raises ConfigError or PlacementError."""
    placement, graph, facts = placement_of(config), described.graph, dict(described.facts)
    rows = {
        name: ModuleRows(
            layout=placement.layout(name),
            merge=facts[name].row_multiple,
            cost=facts[name].cost,
            balance=config.data.balance,
            group=1 if name in graph.sinks else config.schedule.encoder_group,
            roots=frozenset() if name in graph.sinks else graph.roots(name),
            prefix=facts[name].prefix,
            queries=facts[name].queries,
        )
        for name in graph.modules
    }
    return Plan(
        placement=placement,
        graph=graph,
        facts=facts,
        rows=rows,
        splits={name: split_parts(config, name, facts[name]) for name in graph.modules},
        widths={
            name: Widths(facts[name].hidden, facts[name].hidden_out, facts[name].hidden_in) for name in graph.modules
        },
        kind=config.schedule.kind,
        microbatches=config.schedule.microbatches,
        dtype=config.training.precision.compute,
        stored=config.training.precision.parameters,
        reduced=config.training.precision.reduce,
        path=path_of(config),
        group=config.schedule.encoder_group,
        encoder=config.schedule.encoder,
        buffer=config.schedule.buffer,
        run_ahead=config.schedule.run_ahead,
        trained=dict(described.trained),
        weights={name: config.modules[name].weight for name in graph.modules},
        stage_costs={
            name: tuple(StageCosts(*costs) for costs in module.stage_costs)
            for name, module in config.modules.items()
            if module.stage_costs
        },
        updates=dict(described.updates),
        recomputed={name: recomputed_kinds(config, name) for name in graph.modules},
        activations={name: activation_policy(config, name) for name in graph.modules},
        pieces={name: described.pieces(name, placement.layout(name)) for name in graph.modules},
        losses={name: _losses(module) for name, module in config.modules.items() if module.losses},
    )


def path_of(config: Config) -> Path:
    """Which code computes layers on the config's device; `auto` stands for a GPU if layers compute in bfloat16.

    A layer compiled for a wider dtype counts as plain: what a compiler saves there is not known.
    """
    training = config.training
    if config.run.device == "cpu" or training.precision.compute != "bfloat16":
        return "plain"
    if training.compile != "auto":
        return "compiled" if training.compile else "kernels"
    return "compiled" if training.steps >= FEWEST_COMPILED_STEPS and not config.run.deterministic else "kernels"


def pieces_under_tp(model: Model, facts: ModelFacts, layout: Layout) -> dict[str, int]:
    """Of the parameters that tp does not cut into as many pieces as it has ranks the number of their pieces."""
    if layout.tp == 1:
        return {}
    rules, found = rules_of(model.section), {}
    for part in facts.parts:
        for name, _shape in part.tensors:
            whole = f"{part.name}.{name}"
            role = next((rule.role for rule in rules if fnmatchcase(whole, rule.pattern)), "whole")
            if role in ("rows", "share", "whole"):
                found[whole] = 1
            elif role == "groups" and part.groups % layout.tp:
                found[whole] = gcd(part.groups, layout.tp)
    return found


def _losses(module: ModuleConfig) -> tuple[FurtherLoss, ...]:
    return tuple(LOSSES[section.kind].planned(section) for section in module.losses)


def part_updates(facts: ModelFacts, module: ModuleConfig, stored: str) -> tuple[PartUpdate, ...]:
    """The optimizer's moments and exchanges for each part of a module whose parameters have the dtype `stored`."""
    kind, section = OPTIMIZERS[module.optimizer.kind], module.optimizer
    moment_bytes = kind.moment_bytes(section)
    size = 1.0 if moment_bytes is None else moment_bytes / _STORED_BYTES[stored]
    updates = []
    for part in facts.parts:
        named = ((f"{part.name}.{name}", shape) for name, shape in part.tensors)
        trained = [(name, shape) for name, shape in named if is_trained(name, module.train)]
        kept = sum(prod(shape) * len(kind.moments(section, name, shape)) for name, shape in trained)
        elements = sum(prod(shape) for _name, shape in trained)
        exchanges = any(kind.exchanges(section, name, shape) for name, shape in trained)
        updates.append(PartUpdate(size * kept / max(elements, 1), exchanges))
    return tuple(updates)


def recomputed_kinds(config: Config, module: str) -> frozenset[str]:
    """The kinds of a module's layers under activation recomputation."""
    recompute = config.modules[module].recompute
    if not isinstance(recompute, str):
        return frozenset(recompute).difference(PARTS)
    return config.modules[module].model.layer_kinds if recompute == "full" else frozenset()


def activation_policy(config: Config, module: str) -> ActivationPolicy:
    """What a module's layers keep for backward, beside which of them are recomputed."""
    section = config.modules[module]
    listed = frozenset() if isinstance(section.recompute, str) else frozenset(section.recompute)
    return ActivationPolicy(listed.intersection(PARTS), frozenset(section.recompute_keeps), section.offload)


def execution_of(config: Config) -> Execution:
    """How a config's plan is executed, beyond what the plan says."""
    return Execution(overlaps_products=config.training.tp_overlap)


def placement_of(config: Config) -> Placement:
    """The placement, from the config alone; raises PlacementError."""
    requests = tuple((name, module.layout) for name, module in config.modules.items())
    return place(config.world.size, requests, tuple(config.world.idle), config.world.partial_overlap)


def _ends(config: Config, module: str, vocab: int | None) -> Ends:
    """What edges and tokenizer add to a module's model."""
    out = [edge for edge in config.edges if edge.source == module]
    into = [edge for edge in config.edges if edge.target == module]
    return Ends(
        entering=entering_width(config, module) if into else 0,
        # All modules that a module's rows enter have the same width.
        leaving=entering_width(config, out[0].target) if out else 0,
        vocab=_vocab(config, module, vocab),
        taps=_ascending(depth.after for edge in out for depth in edge.depths),
        inserts=_ascending(depth.into for edge in into for depth in edge.depths),
    )


def _vocab(config: Config, module: str, vocab: int | None) -> int:
    words = config.modules[module].model.words
    if words == "tokenizer":
        if vocab is None:
            raise ConfigError(
                f"modules.{module}.model.vocab: got 'tokenizer' without data.tokenizer, expected a tokenizer file; "
                "set data.tokenizer or give a number"
            )
        return vocab
    return words


def _edge(edge: EdgeConfig) -> Edge:
    return Edge(edge.source, edge.target, tuple((depth.after, depth.into) for depth in edge.depths))


def _ascending(layers: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(layers)))


def split_parts(config: Config, module: str, facts: ModelFacts) -> tuple[tuple[int, int], ...]:
    """Runs of parts per stage: layers are split, parts after a layer stay with it, the others go to the ends."""
    layout = config.modules[module].layout
    layers = [place for place, part in enumerate(facts.parts) if part.name.startswith("layers.")]
    if isinstance(layout.split, str):
        firsts = [first for first, _stop in even_split(len(layers), layout.stages)]
    else:
        firsts = [sum(layout.split[:stage]) for stage in range(len(layout.split))]
    return tuple(itertools.pairwise([0, *(layers[first] for first in firsts[1:]), len(facts.parts)]))
