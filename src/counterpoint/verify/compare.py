"""What "equal" means (design D13), in one place."""

import math
from dataclasses import dataclass

import torch

TOLERANCES = {"float64": 1e-9, "float32": 1e-4}
_MODULE_FLOOR = 1e-3
"""A gradient is measured against at least this share of the largest one of its module: some are zero by mathematics."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The worst relative difference of one kind (loss, norm, gradient, update), and where it is."""

    kind: str
    where: str
    value: float


@dataclass(frozen=True, slots=True)
class Observation:
    """What one side saw of one step: losses, total norm, unclipped gradients and updates by parameter key.

    Updates are of buffers, such as expert biases, too.
    """

    loss: float
    balance_loss: float
    mtp_loss: float
    norm: float
    gradients: dict[str, torch.Tensor]
    updates: dict[str, torch.Tensor]


def compare_step(step: int, ours: Observation, reference: Observation, rates: dict[str, float]) -> list[Difference]:
    """Worst differences of a step; `rates` is the learning rate per module. NaN counts as infinitely different."""
    odd = sorted(ours.gradients.keys() ^ reference.gradients.keys() | ours.updates.keys() ^ reference.updates.keys())
    if odd:
        return [Difference("parameters", f"step {step}: {odd[0]} is on one side only", math.inf)]
    return [
        Difference("loss", f"step {step}", _scalar(ours.loss, reference.loss)),
        Difference("balance loss", f"step {step}", _scalar(ours.balance_loss, reference.balance_loss)),
        Difference("MTP loss", f"step {step}", _scalar(ours.mtp_loss, reference.mtp_loss)),
        Difference("norm", f"step {step}", _scalar(ours.norm, reference.norm)),
        _worst("gradient", step, ours.gradients, reference.gradients, _gradient_floors(reference.gradients)),
        _worst("update", step, ours.updates, reference.updates, {k: rates[_module(k)] for k in reference.updates}),
    ]


def _module(key: str) -> str:
    return key.split(".", 1)[0]


def _gradient_floors(gradients: dict[str, torch.Tensor]) -> dict[str, float]:
    largest: dict[str, float] = {}
    for key, gradient in gradients.items():
        largest[_module(key)] = max(largest.get(_module(key), 0.0), _largest(gradient))
    return {key: _MODULE_FLOOR * largest[_module(key)] for key in gradients}


def _worst(
    kind: str,
    step: int,
    ours: dict[str, torch.Tensor],
    reference: dict[str, torch.Tensor],
    floors: dict[str, float],
) -> Difference:
    values = {
        key: _relative(
            _largest(ours[key].double() - reference[key].double()), max(_largest(reference[key]), floors[key])
        )
        for key in reference
    }
    where = max(values, key=lambda key: values[key])
    return Difference(kind, f"step {step}: {where}", values[where])


def _largest(tensor: torch.Tensor) -> float:
    return float(tensor.abs().max()) if tensor.numel() else 0.0


def _scalar(ours: float, reference: float) -> float:
    return _relative(abs(ours - reference), abs(reference))


def _relative(difference: float, size: float) -> float:
    if math.isnan(difference) or math.isnan(size):
        return math.inf
    if difference == 0.0:
        return 0.0
    return difference / size if size else math.inf
