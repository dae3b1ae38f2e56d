"""Random layouts, placements, plans and packs for property tests, and one small plan with known ranks."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from counterpoint.plan.batch import ModuleRows
from counterpoint.plan.graph import Edge, Graph
from counterpoint.plan.layout import Layout
from counterpoint.plan.placement import Placement, place
from counterpoint.plan.plan import Plan, Widths, even_split
from counterpoint.plan.samples import Document, Item, Pack
from counterpoint.plan.trainability import PartUpdate, TrainedPart
from tests.asked import asked

ENCODERS = ("vision", "audio", "touch")
LANGUAGE = "language"
WIDTHS = {
    "vision": Widths(8, 32), "audio": Widths(12, 32, 32), "touch": Widths(4, 32, 32), "language": Widths(32, 32),
}  # fmt: skip
KINDS = ("gpipe", "1f1b", "interleaved", "zero_bubble", "filled")
AXES = ("pp", "dp_replicate", "dp_shard", "cp", "tp")


@st.composite
def degrees(draw: st.DrawFn, size: int) -> dict[str, int]:
    """Degrees that multiply to `size`, dealt to the axes in a random order."""
    left, result = size, {}
    for axis in draw(st.permutations(AXES)):
        result[axis] = draw(st.sampled_from([d for d in range(1, left + 1) if left % d == 0]))
        left //= result[axis]
    result[axis] *= left
    return result


@st.composite
def layouts(draw: st.DrawFn, max_size: int = 24) -> Layout:
    """One layout on a random ascending rank list with gaps."""
    size = draw(st.integers(1, max_size))
    ranks = draw(st.lists(st.integers(0, 3 * size), min_size=size, max_size=size, unique=True))
    dense = draw(degrees(size))
    stage = size // dense["pp"]
    ep = draw(st.sampled_from([d for d in range(1, stage + 1) if stage % d == 0]))
    etp = draw(st.sampled_from([d for d in range(1, stage // ep + 1) if stage // ep % d == 0]))
    of_axes: dict[str, Any] = {**dense, "ep": ep, "etp": etp}
    return Layout(module="vision", ranks=tuple(sorted(ranks)), **of_axes)


@st.composite
def placements(draw: st.DrawFn, max_world: int = 12, max_encoders: int = 3) -> Placement:
    """Colocated, disjoint (interleaved rank lists) or mixed; ranks without a module are idle."""
    modules = (*ENCODERS[: draw(st.integers(0, max_encoders))], LANGUAGE)
    style = draw(st.sampled_from(("colocated", "disjoint", "mixed")))
    world = draw(st.integers(len(modules), max_world))
    shuffled = draw(st.permutations(range(world)))
    sets: Sequence[Sequence[int]]
    if style == "colocated":
        sets = [range(draw(st.integers(1, world)))] * len(modules)
    elif style == "disjoint":
        most = world // len(modules)
        bounds = [draw(st.integers(1, most)) for _ in modules]
        sets = [shuffled[i * most : i * most + size] for i, size in enumerate(bounds)]
    else:
        sets = [draw(st.permutations(range(world)))[: draw(st.integers(1, world))] for _ in modules]
    requests = tuple(
        asked(
            module,
            ranks=tuple(sorted(ranks)),
            reshard=draw(st.booleans()),
            chunks=draw(st.sampled_from((1, 1, 2, 3))),
            **draw(degrees(len(ranks))),
        )
        for module, ranks in zip(modules, sets)
    )
    idle = tuple(sorted(set(range(world)) - {rank for ranks in sets for rank in ranks}))
    return place(world, tuple(draw(st.permutations(requests))), idle, partial_overlap=True)


@st.composite
def plans(draw: st.DrawFn, max_world: int = 12, max_microbatches: int = 4, kinds: tuple[str, ...] = KINDS) -> Plan:
    """A plan of zero to three encoders and one language model, on any placement, one encoder maybe feeding another."""
    placement = draw(placements(max_world))
    edges = draw(encoder_edges(tuple(sorted(layout.module for layout in placement.layouts))))
    fed = {edge.target for edge in edges} - {LANGUAGE}
    group = draw(st.sampled_from((1, 1, 2, 3)))
    rows = {}
    for layout in placement.layouts:
        is_item = layout.module not in (LANGUAGE, *fed)
        rows[layout.module] = ModuleRows(
            layout,
            draw(st.sampled_from((1, 4))) if is_item else 1,
            group=1 if layout.module == LANGUAGE else group,
            roots=frozenset({"vision"}) if layout.module in fed else frozenset(),
            balance=draw(st.sampled_from(("none", "sample", "cost"))),
            queries=draw(st.sampled_from((0, 0, 1, 3))) if is_item else 0,
        )
    plan = plan_of(placement, rows, draw(st.sampled_from(kinds)), draw(st.integers(1, max_microbatches)))
    modules = tuple(layout.module for layout in placement.layouts)
    trained = [draw(st.sampled_from(("none", "part", "all", "all"))) for _module in modules]
    if set(trained) == {"none"}:
        trained[0] = "all"
    return replace(
        plan,
        graph=Graph.build(modules, edges),
        group=group,
        encoder=draw(st.sampled_from(("just_in_time", "first", "fill"))),
        buffer=draw(st.sampled_from((None, 1, 2))),
        run_ahead=draw(st.sampled_from((0, 0, 1, 2))),
        trained={
            layout.module: tuple(
                TrainedPart.whole(1, is_trained=kind == "all" or (kind == "part" and part == 0))
                for part in range(2 * layout.stages)
            )
            for layout, kind in zip(placement.layouts, trained, strict=True)
        },
        updates={
            layout.module: tuple(
                PartUpdate(draw(st.sampled_from((1.0, 1.5, 2.0))), kind != "none" and part % 3 == 0)
                for part in range(2 * layout.stages)
            )
            for layout, kind in zip(placement.layouts, trained, strict=True)
            if draw(st.booleans())
        },
    )


@st.composite
def encoder_edges(draw: st.DrawFn, modules: tuple[str, ...]) -> tuple[Edge, ...]:
    """Every encoder feeds the language model; vision may feed another as well, or only another."""
    edges = [Edge(module, LANGUAGE) for module in modules if module != LANGUAGE]
    others = [module for module in modules if module not in ("vision", LANGUAGE)]
    if bool(others) and draw(st.booleans()):
        edges.append(Edge("vision", others[0]))
        if draw(st.booleans()):
            edges.remove(Edge("vision", LANGUAGE))
    return tuple(edges)


def plan_of(placement: Placement, rows: dict[str, ModuleRows], kind: str, microbatches: int) -> Plan:
    """Every encoder feeds the language model; two parts per stage."""
    modules = tuple(layout.module for layout in placement.layouts)
    graph = Graph.build(modules, tuple(Edge(module, LANGUAGE) for module in modules if module != LANGUAGE))
    return Plan(
        placement=placement,
        graph=graph,
        facts={},
        rows=rows,
        splits={layout.module: even_split(2 * layout.stages, layout.stages) for layout in placement.layouts},
        widths={module: WIDTHS[module] for module in modules},
        kind=kind,
        microbatches=microbatches,
    )


def small_plan(kind: str = "gpipe", microbatches: int = 2, tp: int = 2) -> Plan:
    """Vision dp2 on ranks 0 and 1, language tp2 (or dp2) on ranks 2 and 3."""
    vision = asked("vision", ranks=(0, 1))
    placement = place(4, (vision, asked(LANGUAGE, ranks=(2, 3), tp=tp)))
    rows = {layout.module: ModuleRows(layout) for layout in placement.layouts}
    return plan_of(placement, rows, kind, microbatches)


def chain_plan(ranks: int, microbatches: int, kind: str, chunks: int = 1) -> Plan:
    """A language model alone, one rank per stage or per so many chunks."""
    placement = place(ranks, (asked(LANGUAGE, pp=ranks, chunks=chunks),))
    rows = {LANGUAGE: ModuleRows(placement.layouts[0])}
    return plan_of(placement, rows, kind, microbatches)


def random_packs(plan: Plan, seed: int, max_packs: int = 8) -> tuple[Pack, ...]:
    """Packs with zero to three items per document, and some without any; positions never overlap."""
    dice = random.Random(seed)
    encoders = [module for module in plan.graph.modules if module != plan.sink and not plan.graph.incoming(module)]
    share = dice.choice((0.0, 0.5, 1.0))
    packs, index = [], 0
    for _ in range(dice.randint(0, max_packs)):
        pack = []
        for _ in range(dice.randint(1, 2)):
            has_items = bool(encoders) and dice.random() < share
            pack.append(_document(plan, dice, index, encoders if has_items else []))
            index += 1
        packs.append(tuple(pack))
    return tuple(packs)


def uniform_packs(count: int, tokens: int = 12, rows: int = 4) -> tuple[Pack, ...]:
    """Packs of one document with one image at row 2."""
    item = Item("vision", 2, rows, rows)
    return tuple((Document(0, number, tokens, tokens - rows - 1, (item,)),) for number in range(count))


def _document(plan: Plan, dice: random.Random, index: int, encoders: list[str]) -> Document:
    items, tokens = [], dice.randint(1, 5)
    for _ in range(dice.randint(0, 3) if encoders else 0):
        module, groups = dice.choice(encoders), dice.randint(1, 9)
        rows = plan.rows[module].queries or groups
        items.append(Item(module, tokens, groups * plan.rows[module].merge, rows))
        tokens += rows + dice.randint(0, 4)
    return Document(dice.randint(0, 1), index, tokens, dice.randint(0, tokens), tuple(items))
