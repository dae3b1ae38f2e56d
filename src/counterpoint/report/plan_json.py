"""A plan as plain data for other programs."""

from dataclasses import asdict
from typing import Any

from counterpoint.check.proof import Proof
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.form import form_of
from counterpoint.plan.layout import Layout, format_ranks
from counterpoint.plan.plan import Plan
from counterpoint.plan.schedule import Schedule
from counterpoint.report.summary import Summary, summarize
from counterpoint.report.words import stage_parameters
from counterpoint.simulate.estimate import Estimate
from counterpoint.simulate.memory import RankMemory


def plan_json(plan: Plan, batch: BatchPlan | None = None, estimated: Estimate | None = None) -> dict[str, Any]:
    """Layouts, links, communicators, programs as action strings, and the figures of proof and simulation, and of an
    estimate if there is one.

    Contains only dicts with string keys, lists, strings, numbers and booleans. The key `plan` has the complete plan,
    from which `plan_of_form` restores it. Raises ProofError.
    """
    summary = summarize(plan, batch)
    return {
        "world": {"size": plan.placement.world_size, "idle": list(plan.placement.idle)},
        "placement": plan.placement.kind,
        "dtype": plan.dtype,
        "modules": {module: _module(plan, module) for module in plan.graph.modules},
        "edges": [
            {"source": edge.source, "target": edge.target, "depths": [list(pair) for pair in edge.depths]}
            for edge in plan.graph.edges
        ],
        "links": [
            {"link": str(entry.link), "columns": entry.columns, "communicators": list(entry.communicators)}
            for entry in summary.links
        ],
        "communicators": [
            {"name": each.name, "ranks": list(each.ranks), "transfers": each.is_transfer} for each in plan.communicators
        ],
        "schedule": {
            "kind": plan.kind,
            "microbatches": plan.microbatches,
            "encoder_group": plan.group,
            "ahead": dict(plan.stages.ahead),
            "in_flight_bounds": {str(node): most for node, most in plan.schedule.bounds.items()},
            "programs": _programs(plan.schedule),
        },
        "evaluation": {"programs": _programs(plan.evaluation)},
        "proof": _proof(summary.proof),
        "timeline": _timeline(summary),
        "memory_bytes": {str(rank): used.total_bytes for rank, used in summary.memory.items()},
        "memory": {str(rank): _memory(used) for rank, used in summary.memory.items()},
        **({} if estimated is None else {"estimate": _estimate(estimated)}),
        "plan": form_of(plan),
    }


def _estimate(found: Estimate) -> dict[str, Any]:
    return {
        "hardware": {"name": found.hardware, "source": found.source, "memory_bytes": found.rank_bytes},
        "seconds": found.seconds,
        "tokens_per_second": found.tokens_per_second,
        "utilisation": found.utilisation,
        "bubble": found.bubble,
        "exposed": found.exposed,
        "memory_bytes": found.memory_bytes,
        "fits": found.fits,
        "breakdown": asdict(found.breakdown),
        "ranks": {
            format_ranks(ranks): {
                "breakdown": asdict(found.timeline.breakdowns[ranks[0]]),
                "memory": _memory(found.memory[ranks[0]]),
            }
            for ranks in found.timeline.same
        },
    }


def _memory(used: RankMemory) -> dict[str, Any]:
    return {
        "static_bytes": used.static_bytes,
        "parameter_bytes": used.parameter_bytes,
        "optimizer_bytes": used.optimizer_bytes,
        "gradient_bytes": used.gradient_bytes,
        "gathered_bytes": used.gathered_bytes,
        "activation_bytes": used.activation_bytes,
        "working_bytes": used.working_bytes,
        "peak_bytes": used.total_bytes,
        "peak_at": used.at,
        "allocator_bytes": used.allocator_bytes,
    }


def _module(plan: Plan, module: str) -> dict[str, Any]:
    stages = [node for node in plan.stages.nodes if node.module == module]
    names = [part.name for part in plan.facts[module].parts]
    return {
        "layout": _layout(plan.layouts[module]),
        "parameters": plan.facts[module].parameters,
        "active_parameters": plan.facts[module].active_parameters,
        "stages": [
            {
                "stage": str(node),
                "ranks": list(plan.stages.ranks[node]),
                "split": list(plan.splits[module][node.stage]),
                "parts": names[slice(*plan.splits[module][node.stage])],
                "parameters": stage_parameters(plan, node),
            }
            for node in stages
        ],
    }


def _layout(layout: Layout) -> dict[str, Any]:
    return {
        "ranks": list(layout.ranks),
        "pp": layout.pp,
        "chunks": layout.chunks,
        "dp_replicate": layout.dp_replicate,
        "dp_shard": layout.dp_shard,
        "cp": layout.cp,
        "tp": layout.tp,
        "ep": layout.ep,
        "etp": layout.etp,
        "sequence_parallel": layout.sequence_parallel,
        "reshard": layout.reshard,
        "coordinates": {str(rank): layout.coordinate(rank)._asdict() for rank in layout.ranks},
    }


def _programs(schedule: Schedule) -> dict[str, list[str]]:
    return {str(rank): [str(action) for action in program] for rank, program in schedule.programs.items()}


def _proof(proof: Proof) -> dict[str, Any]:
    return {
        "ranks": proof.ranks,
        "actions": proof.actions,
        "events": proof.events,
        "posts": proof.posts,
        "communicators": proof.communicators,
        "in_flight": {str(node): count for node, count in proof.in_flight.items()},
        "receives_ahead": proof.receives_ahead,
        "rows": proof.rows,
    }


def _timeline(summary: Summary) -> dict[str, Any]:
    timeline = summary.timeline
    return {
        "unit": "forward 1, backward 2",
        "makespan": timeline.makespan,
        "bubble": timeline.bubble_fraction,
        "ranks": {
            str(rank): [{"action": str(each.action), "start": each.start, "end": each.end} for each in row]
            for rank, row in timeline.intervals.items()
        },
    }
