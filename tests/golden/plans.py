"""What is planned of a config: programs of every rank, communicators, links, facts, and the first steps' batches."""

import io
from typing import Any

from rich.console import Console

from counterpoint.plan.batch import BatchPlan, Share
from counterpoint.plan.plan import Plan
from counterpoint.report.plan_json import plan_json
from counterpoint.report.plan_text import describe_plan
from counterpoint.setup.data import identity_of
from counterpoint.setup.run import prepare_run as prepare_run
from counterpoint.simulate.clock import flop_costs, simulate
from tests.golden.cases import Config
from tests.golden.digest import bits, digest, short
from tests.golden.written import Golden, written_goldens

STEPS = 3
LENGTHS = (4, 36, 1024)
"""Rows of items whose cost is looked at."""


def plan_goldens(config: Config) -> dict[str, Golden]:
    """By kind, what the plan of a config and its first steps are."""
    plan, _models, corpus = prepare_run(config)
    batches = [plan.batch(step, corpus.packs(step)) for step in range(STEPS)]
    found = written_goldens(plan_json(plan, batches[0]))
    found["facts"] |= cost_golden(plan, batches[0])
    found["plan text"] = {"plan": short(printed(plan, batches[0]))}
    found["batches"] = {f"step {batch.step}": batch_golden(batch) for batch in batches}
    found["steps' programs"] = {f"step {batch.step}": step_programs(plan, batch) for batch in batches}
    found["routes"] = {f"step {batch.step}": routes_golden(plan, batch) for batch in batches}
    found["fingerprints"] = {key: short(value) for key, value in identity_of(config).fingerprint.items()}
    return found


def cost_golden(plan: Plan, batch: BatchPlan) -> Golden:
    """What the models cost: FLOPs of items of some lengths, and the first step on the clock that counts them."""
    found: Golden = {
        f"{module} flops of {rows} rows": facts.forward_flops(rows)
        for module, facts in plan.facts.items()
        for rows in LENGTHS
    }
    timeline = simulate(plan, batch, flop_costs(plan, batch))
    return found | {"weighed makespan": bits(timeline.makespan), "weighed bubble": bits(timeline.bubble_fraction)}


def printed(plan: Plan, batch: BatchPlan) -> str:
    """What the command `plan` prints."""
    out = io.StringIO()
    Console(file=out, width=120, color_system=None).print(describe_plan(plan, None, batch), markup=False)
    return out.getvalue()


def batch_golden(batch: BatchPlan) -> Golden:
    """Every field of a batch plan, without the names of its classes."""
    documents = [
        (
            one.source, one.index, one.tokens, one.loss_tokens, one.mtp_loss_tokens,
            [(item.module, item.position, item.rows_in, item.rows, item.columns) for item in one.items],
        )
        for one in batch.documents
    ]  # fmt: skip
    shares = {
        f"shares {module}": short([[_share(share) for share in lanes] for lanes in of_module])
        for module, of_module in batch.shares.items()
    }
    return {
        "documents": short(documents), "homes": short(batch.homes), "microbatches": batch.microbatches,
        "loss tokens": batch.loss_tokens, **shares,
    }  # fmt: skip


def _share(share: Share) -> list[Any]:
    spans = [(s.document, s.item, s.row_in, s.rows_in, s.row_out, s.rows_out) for s in share.spans]
    return [share.rows_in, share.rows_out, spans]


def step_programs(plan: Plan, batch: BatchPlan) -> Golden:
    """What every rank does in a step, with what runs ahead taken for a step like this one."""
    programs = plan.of_step(plan.schedule, batch, batch).programs
    return {f"rank {rank}": short(" ".join(map(str, program))) for rank, program in programs.items()}


def routes_golden(plan: Plan, batch: BatchPlan) -> Golden:
    """Which rows go where, by link."""
    found = {}
    for link in plan.stages.links:
        routes = [plan.route(batch, link, n) for n in range(plan.stages.exchanges(link, plan.microbatches))]
        copies = [
            [(c.source_rank, c.target_rank, c.source_row, c.target_row, c.rows) for c in route.copies]
            for route in routes
        ]
        found[str(link)] = digest(str(copies))
    return found
