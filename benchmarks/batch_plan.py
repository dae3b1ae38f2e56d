"""Planning the batch of a step: how long it takes, and how evenly language lanes are loaded.

    python benchmarks/batch_plan.py [--steps 60] [--json benchmarks/results/batch_plan_cpu.json]

Documents are drawn like those of web pages with pictures: a log-normal number of tokens and of pictures, of which the
shorter side is log-normal too, in patches of 14 pixels of which four make a row of the language model. Costs are those
of the models of two recipes. Nothing is packed: a document is a sequence.
"""

import argparse
import itertools
import json
import math
import platform
import random
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from counterpoint.config.load import load_config
from counterpoint.plan.batch import BatchPlan, ModuleRows
from counterpoint.plan.cost import Cost
from counterpoint.plan.erase import carries
from counterpoint.plan.graph import Edge, Graph
from counterpoint.plan.layout import Layout
from counterpoint.plan.placement import Placement
from counterpoint.plan.plan import Plan, Widths, even_split
from counterpoint.plan.plan_batch import plan_batch
from counterpoint.plan.samples import Document, Item, Pack
from counterpoint.setup.plan import models_of, plan_of

RECIPES = {"hybrid": "nemotron6-moe-vlm-20l", "dense": "llava-1.5-7b"}
LANES, SAMPLES, WITHOUT = (8, 32, 64, 512), (1, 4, 8), (0.0, 0.3, 0.7)
"""Language lanes, documents of a lane in a step, shares of documents without pictures."""
MICROBATCHES = (1, 4)
MERGES = {"vision": 4, "language": 1}
PATCH, MERGED, MOST_ROWS = 14, 2, 1280


@dataclass(frozen=True)
class Balance:
    """Loads of lanes over several steps, relative to the mean lane; of each the mean over the steps.

    `lane` is the heaviest lane's cost over the step, `cells` the sum over microbatches of the costs of the heaviest
    lane in each; both with packs in their order, too. `over` counts steps in which the heaviest lane is above 1.05 of
    the mean and above 1.02 of the `largest` document; `rows` are the most rows of a lane in a microbatch, relative to
    those in order.
    """

    model: str
    without: float
    lanes: int
    samples: int
    microbatches: int
    steps: int
    lane_in_order: float
    lane: float
    cells_in_order: float
    cells: float
    largest: float
    over: int
    worst_of_bound: float
    rows: float


def documents(seed: int, count: int, without: float) -> tuple[Pack, ...]:
    """Packs of one document each."""
    dice = random.Random(seed)
    return tuple((_document(dice, number, dice.random() >= without),) for number in range(count))


def _document(dice: random.Random, number: int, has_pictures: bool) -> Document:
    position = 1 + round(dice.lognormvariate(math.log(677), 0.61))
    pictures = min(30, max(1, math.ceil(dice.lognormvariate(-0.20, 1.34)))) if has_pictures else 0
    items = []
    for _ in range(pictures):
        short = dice.lognormvariate(math.log(261), 0.687) / PATCH / MERGED
        long = short * math.exp(0.30 * abs(dice.gauss(0.0, 1.0)))
        shrink = min(1.0, math.sqrt(MOST_ROWS / (short * long)))
        rows = max(1, round(short * shrink)) * max(1, round(long * shrink))
        items.append(Item("vision", position, rows * MERGED**2, rows))
        position += rows
    return Document(0, number, position, position - sum(item.rows for item in items), tuple(items))


def costs_of(model: str) -> dict[str, Cost]:
    """The costs of a recipe's modules."""
    config = load_config(Path(__file__).parents[1] / "recipes" / f"{RECIPES[model]}.yaml")
    return {name: rows.cost for name, rows in plan_of(config, models_of(config, 131_072)).rows.items()}


def loads_of(packs: tuple[Pack, ...], language: ModuleRows, microbatches: int) -> tuple[int, int, int]:
    """The heaviest lane's cost, the sum over microbatches of the heaviest cost in each, and the most rows there."""
    batch = plan_batch(0, packs, {"language": language}, "language", microbatches)
    lengths = [[lanes.lengths(lane) for lane in range(len(lanes))] for lanes in batch.shares["language"]]
    loads = [[sum(language.cost.of_each(one)) for one in lanes] for lanes in lengths]
    most_rows = max(sum(one) for lanes in lengths for one in lanes)
    return max(map(sum, zip(*loads, strict=True))), sum(map(max, loads)), most_rows


def balance(model: str, cost: Cost, without: float, lanes: int, samples: int, microbatches: int, steps: int) -> Balance:
    """How packs are dealt in `steps` steps."""
    layout = Layout(module="language", ranks=tuple(range(lanes)), dp_shard=lanes)
    found, of_bound = [], []
    for step in range(steps):
        packs = documents(step, lanes * samples, without)
        of_packs = cost.of_each([document.tokens for (document,) in packs])
        mean, largest = sum(of_packs) / lanes, max(of_packs)
        lane, cells, rows = loads_of(packs, ModuleRows(layout, cost=cost), microbatches)
        in_order = loads_of(packs, ModuleRows(layout, cost=cost, balance="none"), microbatches)
        of_bound.append(lane / max(1.05 * mean, 1.02 * largest))
        loads = (in_order[0], lane, in_order[1], cells, largest)
        found.append([*(load / mean for load in loads), rows / in_order[2]])
    means = [statistics.mean(column) for column in zip(*found, strict=True)]
    return Balance(
        model=model,
        without=without,
        lanes=lanes,
        samples=samples,
        microbatches=microbatches,
        steps=steps,
        lane_in_order=means[0],
        lane=means[1],
        cells_in_order=means[2],
        cells=means[3],
        largest=means[4],
        over=sum(one > 1 for one in of_bound),
        worst_of_bound=max(of_bound),
        rows=means[5],
    )


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one core, the least and the median of several rounds: to plan a batch from its packs, to take its
    digest, to lay out and route what rank 0 needs of it, and all of that, which is what a rank plans in a step.

    Every round is a step with documents of its own, which are drawn before its time begins. The plan knows from earlier
    rounds what lengths cost, as in training, and nothing else.
    """

    what: str
    items: int
    plan: tuple[float, float]
    digest: tuple[float, float]
    own: tuple[float, float]
    step: tuple[float, float]


def timing(what: str, plan: Plan, rounds: int) -> Timing:
    """How long a rank of a plan takes for a step of 4,096 documents; `items` is the mean number of theirs."""
    spent: list[list[float]] = []
    items = []
    for step in range(rounds):
        packs = documents(step, 4096, 0.3)
        items.append(sum(len(document.items) for pack in packs for document in pack))
        start = time.process_time()
        batch = plan.batch(step, packs)
        planned = time.process_time()
        batch.digest()
        compared = time.process_time()
        read(plan, batch)
        done = time.process_time()
        spent.append([planned - start, compared - planned, done - compared, done - start])
    least_and_median = [
        (round(1e3 * min(times), 2), round(1e3 * statistics.median(times), 2)) for times in zip(*spent, strict=True)
    ]
    return Timing(what, round(statistics.mean(items)), *least_and_median)


def read(plan: Plan, batch: BatchPlan) -> None:
    """Look at what rank 0 needs: its lanes of each module, its routes, and what is empty or even on all lanes."""
    for module in plan.placement.modules_of(0):
        for microbatch, lanes in enumerate(batch.shares[module]):
            if not batch.is_empty(module, microbatch):
                lanes[0]
    for microbatch in range(plan.microbatches):
        batch.has_even_lanes(microbatch)
    for link in plan.stages.links:
        for exchange in range(plan.stages.exchanges(link, plan.microbatches)):
            if carries(plan.stages, batch, link, exchange):
                plan.route(batch, link, exchange, 0)


def plan_with(costs: dict[str, Cost], lanes: dict[str, int], cp: int = 1) -> Plan:
    """Modules with so many lanes, all from rank 0 on; the encoder's lanes have `cp` ranks."""
    degrees = {name: cp if name == "vision" else 1 for name in lanes}
    layouts = tuple(
        Layout(module=name, ranks=tuple(range(dp * degrees[name])), dp_shard=dp, cp=degrees[name])
        for name, dp in lanes.items()
    )
    edges = tuple(Edge(name, "language") for name in lanes if name != "language")
    return Plan(
        placement=Placement(max(len(layout.ranks) for layout in layouts), layouts),
        graph=Graph.build(tuple(lanes), edges),
        facts={},
        rows={
            one.module: ModuleRows(one, 1 if one.module == "language" else 4, cost=costs[one.module]) for one in layouts
        },
        splits={name: even_split(2, 1) for name in lanes},
        widths={name: Widths(1, 1) for name in lanes},
        kind="1f1b",
        microbatches=1,
    )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="steps over which balance is measured")
    parser.add_argument("--rounds", type=int, default=21, help="rounds of each timing")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    costs = {model: costs_of(model) for model in RECIPES}
    timings = [
        timing(what, plan_with(costs["hybrid"], lanes, cp), arguments.rounds)
        for what, lanes, cp in (
            ("language dp512", {"language": 512}, 1),
            ("language dp512, vision dp512", {"vision": 512, "language": 512}, 1),
            ("language dp512, vision dp64 cp8", {"vision": 64, "language": 512}, 8),
            ("language dp512, vision cp512", {"vision": 1, "language": 512}, 512),
        )
    ]
    print("512 language lanes, 4,096 documents; milliseconds of one core, least and median")
    for one in timings:
        print(
            f"{one.what:34} {one.items:6,} items  plan {one.plan}  digest {one.digest}  own {one.own}  step {one.step}"
        )
    print("model   without lanes samples microbatches | in order: lane cells | dealt: lane cells | largest over worst")
    balances = []
    for model, without, lanes, samples, microbatches in itertools.product(
        RECIPES, WITHOUT, LANES, SAMPLES, MICROBATCHES
    ):
        steps = max(1, arguments.steps * 64 // max(lanes, 64))
        if samples % microbatches == 0:
            found = balance(model, costs[model]["language"], without, lanes, samples, microbatches, steps)
            balances.append(found)
            print(
                f"{model:7} {without:7} {lanes:5} {samples:7} {microbatches:12} | {found.lane_in_order:8.2f} "
                f"{found.cells_in_order:11.2f} | {found.lane:7.3f} {found.cells:12.3f} | {found.largest:7.3f} "
                f"{found.over:4} {found.worst_of_bound:5.3f} {found.rows:.2f}"
            )
    if arguments.json:
        settings = {"python": platform.python_version(), "processor": processor(), "rounds": arguments.rounds}
        figures = {"settings": settings, "timings": list(map(asdict, timings)), "balance": list(map(asdict, balances))}
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def processor() -> str:
    """The name of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
