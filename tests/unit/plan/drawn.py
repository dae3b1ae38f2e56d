"""Plans drawn by a seed, larger than those of hypothesis: up to 64 ranks, experts, ties, neighbourhoods, rounds."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from unittest.mock import patch

from counterpoint.plan import peers
from counterpoint.plan.batch import ModuleRows
from counterpoint.plan.graph import Edge, Graph
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.plan.part_facts import light
from counterpoint.plan.placement import Placement, Request, place
from counterpoint.plan.plan import Plan
from counterpoint.plan.trainability import PartUpdate, TrainedPart
from tests.asked import asked
from tests.unit.plan.strategies import AXES, ENCODERS, KINDS, LANGUAGE, plan_of


@contextmanager
def limits(most_peers: int, most_operations: int) -> Iterator[None]:
    """Limits that small plans exceed."""
    with patch.object(peers, "MOST_PEERS", most_peers), patch.object(peers, "MOST_OPERATIONS", most_operations):
        yield


@contextmanager
def drawn_plan(seed: int, max_world: int = 64) -> Iterator[Plan]:
    """A plan, and the limits of peers and operations with which it was drawn."""
    dice = random.Random(seed)
    most = (
        (dice.randint(1, 5), dice.randint(2, 6)) if dice.random() < 0.4 else (peers.MOST_PEERS, peers.MOST_OPERATIONS)
    )
    with limits(*most):
        yield _plan(dice, max_world)


def _plan(dice: random.Random, max_world: int) -> Plan:
    placement = _placement(dice, max_world)
    group = dice.choice((1, 1, 2, 3))
    modules = tuple(layout.module for layout in placement.layouts)
    edges = _edges(dice, modules)
    fed = {edge.target for edge in edges} - {LANGUAGE}
    rows = {
        layout.module: ModuleRows(
            layout,
            group=1 if layout.module == LANGUAGE else group,
            roots=frozenset({"vision"}) if layout.module in fed else frozenset(),
        )
        for layout in placement.layouts
    }
    plan = plan_of(placement, rows, dice.choice(KINDS), dice.randint(1, 4))
    parts = {layout.module: 2 * layout.stages for layout in placement.layouts}
    trained = {module: dice.choice(("none", "part", "all", "all")) for module in modules}
    if set(trained.values()) == {"none"}:
        trained[LANGUAGE] = "all"
    return replace(
        plan,
        graph=Graph.build(modules, edges),
        facts={module: _facts(dice, count) for module, count in parts.items() if dice.random() < 0.5},
        group=group,
        encoder=dice.choice(("just_in_time", "first", "fill")),
        buffer=dice.choice((None, 1, 2)),
        run_ahead=dice.choice((0, 0, 1, 2)),
        trained={
            module: tuple(
                TrainedPart.whole(1, is_trained=trained[module] == "all" or (trained[module] == "part" and part == 0))
                for part in range(count)
            )
            for module, count in parts.items()
        },
        updates={
            module: tuple(PartUpdate(1.0, trained[module] != "none" and part % 3 == 0) for part in range(count))
            for module, count in parts.items()
            if dice.random() < 0.5
        },
    )


def _placement(dice: random.Random, max_world: int) -> Placement:
    modules = (*ENCODERS[: dice.choice((0, 1, 1, 1, 2, 3))], LANGUAGE)
    world = dice.randint(len(modules), max_world)
    shuffled = dice.sample(range(world), world)
    style = dice.choice(("colocated", "disjoint", "apart", "mixed"))
    sets: list[list[int]] = []
    if style == "colocated":
        sets = [list(range(dice.randint(1, world)))] * len(modules)
    elif style == "mixed":
        sets = [dice.sample(range(world), dice.randint(1, world)) for _module in modules]
    else:
        cuts = sorted(dice.sample(range(1, world), len(modules) - 1))
        order = shuffled if style == "disjoint" else list(range(world))
        sets = [order[a:b] for a, b in zip((0, *cuts), (*cuts, world), strict=True)]
    requests = [_request(dice, module, sorted(ranks)) for module, ranks in zip(modules, sets, strict=True)]
    idle = tuple(sorted(set(range(world)) - {rank for ranks in sets for rank in ranks}))
    return place(world, tuple(dice.sample(requests, len(requests))), idle, partial_overlap=True)


def _request(dice: random.Random, module: str, ranks: list[int]) -> Request:
    degrees, left = {}, len(ranks)
    for axis in dice.sample(AXES, len(AXES)):
        degrees[axis] = dice.choice([degree for degree in range(1, left + 1) if left % degree == 0])
        left //= degrees[axis]
    degrees["dp_shard"] *= left
    stage = prod(degrees.values()) // degrees["pp"]
    ep = dice.choice([degree for degree in range(1, stage + 1) if stage % degree == 0])
    etp = dice.choice([degree for degree in range(1, stage // ep + 1) if stage // ep % degree == 0])
    return asked(
        module, ranks=tuple(ranks), ep=ep, etp=etp, reshard=dice.random() < 0.5, chunks=dice.choice((1, 1, 2, 3)),
        **degrees,
    )  # fmt: skip


def _edges(dice: random.Random, modules: tuple[str, ...]) -> tuple[Edge, ...]:
    edges = [Edge(module, LANGUAGE) for module in modules if module != LANGUAGE]
    others = [module for module in modules if module not in ("vision", LANGUAGE)]
    if others and dice.random() < 0.5:
        edges.append(Edge("vision", others[0]))
        if dice.random() < 0.5:
            edges.remove(Edge("vision", LANGUAGE))
    return tuple(edges)


def _facts(dice: random.Random, parts: int) -> ModelFacts:
    """A model of which some parts have experts, and which may have a tied head."""
    share = dice.choice((0.0, 0.3, 1.0))
    names = ["moe.experts.up" if dice.random() < share else "mlp.up" for _part in range(parts)]
    return facts_of(names, is_tied=dice.random() < 0.5)


def facts_of(names: Sequence[str], *, is_tied: bool = False) -> ModelFacts:
    """A model of layers with one parameter each, of these names."""
    return ModelFacts(
        parts=tuple(light(f"layers.{n}", ((name, (1,)),), 1) for n, name in enumerate(names)),
        hidden=1, hidden_in=1, hidden_out=1, row_multiple=1, residual_sums=1, is_tied=is_tied,
    )  # fmt: skip
