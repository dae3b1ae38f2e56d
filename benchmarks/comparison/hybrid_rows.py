"""Rows of the hybrid's benchmark: what all ranks saw of a setting, as JSON and as a table."""

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .hybrid_runs import HybridOurs, HybridPeer
from .hybrid_settings import SEQUENCE
from .measure import Record

GIB = 2**30
_KERNELS = 40
"""Kernels of a rank's profile that the JSON shows, the longest."""


def row_of(run: HybridOurs | HybridPeer, ranks: Sequence[Record], held: Sequence[int]) -> dict[str, Any]:
    """The row of a setting, with lists by rank; steps are as long as on their slowest rank."""
    steps = [max(seconds) for seconds in zip(*(record.seconds for record in ranks), strict=True)]
    work = run.work(ranks[0].timed)
    each = [one["flops"] for one in work]
    median, tokens = statistics.median(steps), run.samples * SEQUENCE
    # Where steps differ in work, the middle step's time says nothing of the middle step's FLOPs.
    rate = sum(each) / sum(steps) if len(set(each)) > 1 else each[0] / median
    per_flop = sorted(seconds / flops for seconds, flops in zip(steps, each, strict=True))
    return {
        "name": run.setting.name, "is_peer": run.setting.is_peer, "steps_timed": len(steps),
        **_times(steps), "tokens_per_s": tokens / median,
        "text_tokens_per_s": statistics.mean(one["text_tokens"] for one in work) / statistics.mean(steps),
        "model_tflop_per_step": statistics.mean(each) / 1e12,
        "gflop_per_token": statistics.mean(each) / tokens / 1e9,
        "tflops_gpu": rate / len(ranks) / 1e12,
        "ms_per_counted_pflop": {"p50": _at(per_flop, 0.5) * 1e18, "p95": _at(per_flop, 0.95) * 1e18},
        "p95_over_p50_per_flop": _at(per_flop, 0.95) / _at(per_flop, 0.5),
        "peak_gib_by_rank": [max(r.peak_bytes, h + r.step_bytes) / GIB for r, h in zip(ranks, held, strict=True)],
        "held_gib_by_rank": [h / GIB for h in held],
        "cuda_allocations_while_timed": [record.cuda_allocations for record in ranks],
        "compilations_by_step": {str(k): v for k, v in ranks[0].compilations.items()},
        "late_compilations_by_rank": [record.late_compilations for record in ranks],
        "loss_first_last": [statistics.mean(record.losses[i] for record in ranks) for i in (0, 1)],
        **_profile(ranks), **_images(work), **ranks[0].facts,
        "bridge_bytes_by_rank": [record.bridge for record in ranks],
        "step_ms": [seconds * 1e3 for seconds in steps], "step_flops": each,
        "step_ms_by_rank": [[seconds * 1e3 for seconds in record.seconds] for record in ranks],
    }  # fmt: skip


def table(rows: Iterable[dict[str, Any]], ceiling: float) -> str:
    """Rows as text."""
    lines = [
        f"GEMM {ceiling:.0f} TFLOP/s. Times are medians in ms, memory is of the fullest GPU, kernels without NCCL's.",
        f"{'setting':<40} {'step':>8} {'least':>8} {'most':>8} {'tokens/s':>9} {'TFLOP/s':>8} {'of GEMM':>8} "
        f"{'p95/p50':>8} {'GiB':>6} {'kernels':>8} {'no kernel':>9} {'NCCL alone':>10} {'late comp.':>10} {'loss':>15}",
    ]
    for row in rows:
        if "step_ms_median" not in row:
            lines.append(f"{row['name']:<40} failed: {row.get('failed', 'not run')[:150]}")
            continue
        kernels, idle, alone = (row.get(key) for key in ("kernels_per_step", "share_idle", "share_nccl_exposed"))
        first, last = row["loss_first_last"]
        lines.append(
            f"{row['name']:<40} {row['step_ms_median']:8.1f} {row['step_ms_min']:8.1f} {row['step_ms_max']:8.1f} "
            f"{row['tokens_per_s']:9.0f} {row['tflops_gpu']:8.1f} {row['tflops_gpu'] / ceiling:8.3f} "
            f"{row['p95_over_p50_per_flop']:8.3f} {max(row['peak_gib_by_rank']):6.1f} "
            f"{'' if kernels is None else kernels:>8} {'' if idle is None else f'{idle:.1%}':>9} "
            f"{'' if alone is None else f'{alone:.1%}':>10} {max(row['late_compilations_by_rank']):>10} "
            f"{first:7.3f}-{last:.3f}" + (f"  then failed: {row['failed'][:80]}" if "failed" in row else "")
        )
        if groups := row.get("groups_ms"):
            parts = ", ".join(f"{name} {ms:.1f}" for name, ms in groups.items())
            lines.append(f"    ms by group: {parts}")
    return "\n".join(lines)


def combined(files: Sequence[Path]) -> dict[str, Any]:
    """The rows of several launches as one: all timed steps together, and the median of each launch."""
    launches = [json.loads(file.read_text()) for file in files]
    rows: dict[str, list[dict[str, Any]]] = {}
    for launch in launches:
        for row in launch["rows"]:
            rows.setdefault(row["name"], []).append(row)
    return {**launches[0], "launches": len(launches), "gemm_tflops": max(one["gemm_tflops"] for one in launches),
            "gemm_readings": [reading for one in launches for reading in one["gemm_readings"]],
            "rows": [_together(same) for same in rows.values()]}  # fmt: skip


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write a record, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(record, indent=1) + "\n")
    partial.replace(path)


def _together(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    measured = [row for row in rows if "step_ms_median" in row]
    if not measured:
        return rows[0]
    steps = [ms / 1e3 for row in measured for ms in row["step_ms"]]
    medians = [row["step_ms_median"] for row in measured]
    rates, late = [row["tflops_gpu"] for row in measured], [row["late_compilations_by_rank"] for row in measured]
    return {
        **measured[-1], **_times(steps), "steps_timed": len(steps), "step_ms": [s * 1e3 for s in steps],
        "step_ms_median_by_launch": medians, "tflops_gpu_by_launch": rates, "tflops_gpu": statistics.median(rates),
        "tokens_per_s": statistics.median(row["tokens_per_s"] for row in measured),
        "peak_gib_by_rank": [max(peaks) for peaks in zip(*(row["peak_gib_by_rank"] for row in measured), strict=True)],
        "late_compilations_by_rank": [max(counts) for counts in zip(*late, strict=True)],
    }  # fmt: skip


def _times(steps: Sequence[float]) -> dict[str, float]:
    return {
        "step_ms_median": statistics.median(steps) * 1e3, "step_ms_mean": statistics.mean(steps) * 1e3,
        "step_ms_min": min(steps) * 1e3, "step_ms_max": max(steps) * 1e3, "step_ms_p95": _at(sorted(steps), 0.95) * 1e3,
    }  # fmt: skip


def _at(ordered: Sequence[float], share: float) -> float:
    """The value below which a share of the ordered values lies, between neighbours by distance."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _profile(ranks: Sequence[Record]) -> dict[str, Any]:
    """What the profiler saw in one step: shares of the rank with the longest step, busy times of all."""
    seen = [record.profile for record in ranks]
    found: dict[str, Any] = {
        "profile_by_rank": [one | {"table": one.get("table", ())[:_KERNELS]} for one in seen if one]
    }
    if not all("window" in one for one in seen):
        return found
    # The rank that others wait for has the shortest NCCL kernels: what it loses, the step loses.
    last = min(seen, key=lambda one: one["nccl"])
    busy = [one["compute"] for one in seen]
    return found | {
        "kernels_per_step": last["kernels"], "nccl_kernels_per_step": last["nccl_kernels"],
        "profiled_step_ms": last["window"] * 1e3, "share_idle": last["idle"] / last["window"],
        "share_nccl_exposed": last["exposed"] / last["window"], "nccl_ms": last["nccl"] * 1e3,
        "busy_ms_by_rank": [seconds * 1e3 for seconds in busy],
        "busiest_over_mean": max(busy) / statistics.mean(busy),
        "groups_ms": {name: one["seconds"] * 1e3 for name, one in last["groups"].items()},
        "groups_kernels": {name: one["kernels"] for name, one in last["groups"].items()},
        "host_synchronisations": last["host_synchronisations"],
    }  # fmt: skip


def _images(work: Sequence[dict[str, float]]) -> dict[str, Any]:
    """How uneven the tower's lanes are by their FLOPs, and the bound: no dealing divides the largest image."""
    if "imbalance_vision" not in work[0]:
        return {}
    bounds = [max(one.get("largest_image_over_mean_lane", 1.0), 1.0) for one in work]
    return {
        "images_per_step": statistics.mean(one.get("images", 0) for one in work),
        "vision_share_of_flops": statistics.mean(one["flops_vision"] / one["flops"] for one in work),
        "vision_lanes_max_over_mean": statistics.mean(one["imbalance_vision"] for one in work),
        "vision_bound_of_largest_image": statistics.mean(bounds),
        "vision_lanes_over_bound": statistics.mean(
            one["imbalance_vision"] / bound for one, bound in zip(work, bounds, strict=True)
        ),
        "work_by_step": list(work),
    }
