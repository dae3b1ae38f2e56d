"""What a search found, as plain data for other programs."""

from dataclasses import asdict
from typing import Any

from counterpoint.plan.layout import format_ranks
from counterpoint.search.find import SearchResult
from counterpoint.search.walk import Outcome


def search_json(result: SearchResult) -> dict[str, Any]:
    """All layouts that fit, fastest first, what became of the candidates, and what the figures rest on.

    Contains only dicts with string keys, lists, strings, numbers and booleans.
    """
    return {
        "world_size": result.world_size,
        "memory_bytes": result.memory_bytes,
        "hardware": {"name": result.hardware.name, "source": result.hardware.source, "origin": result.hardware.origin},
        "data": {
            "steps": len(result.work.steps),
            "documents": sum(len(pack) for packs in result.work.steps for pack in packs),
        },
        "candidates": asdict(result.found.counts),
        "refused": dict(sorted(result.space.refused.items())),
        "layouts": [_outcome(outcome) for outcome in result.found.outcomes],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    score, candidate = outcome.score, outcome.candidate
    return {
        "seconds": score.seconds,
        "utilisation": score.utilisation,
        "bubble": score.bubble,
        "memory_bytes": score.memory_bytes,
        "breakdown": {
            "computes": dict(score.breakdown.computes),
            "communication": score.breakdown.communication,
            "optimizer": score.breakdown.optimizer,
            "idle": score.breakdown.idle,
        },
        "homogeneous": candidate.is_homogeneous,
        "modules": {
            name: {
                "ranks": format_ranks(tuple(choice.ranks)),
                **choice.degrees._asdict(),
                "recompute": what if isinstance(what, str) else list(what),
                "recompute_keeps": list(choice.recompute.keeps),
            }
            for name, choice in candidate.choices
            for what in (choice.recompute.what,)
        },
        "schedule": candidate.schedule.model_dump(mode="json"),
    }
