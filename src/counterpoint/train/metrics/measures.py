"""Measures of a step: FLOPs, imbalance of lanes, peak FLOPs of the device, and peak memory."""

import torch

from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.plan import Plan

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "B200": 2250e12}
"""Dense bf16 peaks per second from the vendors' data sheets, by a part of the device's name."""


def imbalance(plan: Plan, batch: BatchPlan) -> dict[str, float]:
    """By module, the cost of the most loaded lane over the mean lane's.

    Both are summed over microbatches, since lanes wait for each other in each of them.
    """
    ratios = {}
    for module, rounds in batch.shares.items():
        costs = [
            [sum(plan.facts[module].cost.of_each(lanes.lengths(lane))) for lane in range(len(lanes))]
            for lanes in rounds
        ]
        mean = sum(sum(lanes) / len(lanes) for lanes in costs)
        ratios[module] = sum(max(lanes) for lanes in costs) / mean if mean else 1.0
    return ratios


def device_peak_flops(device: torch.device) -> float | None:
    """The dense bf16 peak of a GPU in FLOPs per second, None if unknown."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)


def peak_bytes(device: torch.device) -> int:
    """Peak bytes allocated on a GPU, or the process's peak resident bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
