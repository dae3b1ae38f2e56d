"""What "equal" means, in one place."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

TOLERANCES = {"float64": 1e-9, "float32": 1e-4}
_MODULE_FLOOR = 1e-3
"""A gradient is measured against at least this share of its module's largest: some are mathematically zero."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A relative difference of one kind (loss, norm, gradient, update), and where it is."""

    kind: str
    where: str
    value: float

    def __str__(self) -> str:
        return f"{self.kind} differs by {self.value:.1e} at {self.where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one side saw of one step: losses, total norm, learning rates by module and `module: group`, unclipped
    gradients and updates by parameter key.

    `further` are the losses beside the main one by `<module>.<kind>`. Updates include those of buffers, such as expert
    biases. The reference gives `own_rates` for parameters in groups.
    """

    loss: float
    balance_loss: float
    mtp_loss: float
    further: dict[str, float]
    norm: float
    rates: dict[str, float]
    gradients: dict[str, torch.Tensor]
    updates: dict[str, torch.Tensor]
    own_rates: dict[str, float] = field(default_factory=dict)


def compare_step(step: int, ours: Observation, reference: Observation) -> list[Difference]:
    """Every difference of a step, in the order in which a step computes what is compared, so that the first too large
    one is nearest to its cause.

    `reference` has its gradients in the order in which a forward uses their parameters. NaN counts as infinitely
    different.
    """
    odd = sorted(ours.gradients.keys() ^ reference.gradients.keys() | ours.updates.keys() ^ reference.updates.keys())
    if odd:
        return [Difference("parameters", f"step {step}: {odd[0]} is on one side only", math.inf)]
    floors = {key: reference.own_rates.get(key, reference.rates[_module(key)]) for key in reference.updates}
    return [
        Difference("loss", f"step {step}", _scalar(ours.loss, reference.loss)),
        Difference("balance loss", f"step {step}", _scalar(ours.balance_loss, reference.balance_loss)),
        Difference("MTP loss", f"step {step}", _scalar(ours.mtp_loss, reference.mtp_loss)),
        *(
            Difference(f"loss {name}", f"step {step}", _scalar(ours.further[name], value))
            for name, value in reference.further.items()
        ),
        Difference("norm", f"step {step}", _scalar(ours.norm, reference.norm)),
        *reversed(_tensors("gradient", step, ours.gradients, reference.gradients, _floors(reference.gradients))),
        *(
            Difference("learning rate", f"step {step}: {module}", _scalar(ours.rates[module], rate))
            for module, rate in reference.rates.items()
        ),
        *_tensors("update", step, ours.updates, reference.updates, floors),
    ]


def worst_of_kinds(differences: Iterable[Difference]) -> tuple[Difference, ...]:
    """The largest difference of each kind, by first occurrence of the kind."""
    worst: dict[str, Difference] = {}
    for difference in differences:
        known = worst.setdefault(difference.kind, difference)
        if difference.value > known.value:
            worst[difference.kind] = difference
    return tuple(worst.values())


def first_wrong(differences: Iterable[Difference], tolerance: float) -> Difference | None:
    """The first difference above the tolerance, None if there is none."""
    return next((difference for difference in differences if difference.value > tolerance), None)


def _module(key: str) -> str:
    return key.split(".", 1)[0]


def _floors(gradients: dict[str, torch.Tensor]) -> dict[str, float]:
    largest: dict[str, float] = {}
    for key, gradient in gradients.items():
        largest[_module(key)] = max(largest.get(_module(key), 0.0), _largest(gradient))
    return {key: _MODULE_FLOOR * largest[_module(key)] for key in gradients}


def _tensors(
    kind: str,
    step: int,
    ours: dict[str, torch.Tensor],
    reference: dict[str, torch.Tensor],
    floors: dict[str, float],
) -> list[Difference]:
    return [
        Difference(kind, f"step {step}: {key}", _relative(_distance(ours[key], theirs), max(_largest(theirs), floor)))
        for (key, theirs), floor in zip(reference.items(), (floors[key] for key in reference), strict=True)
    ]


def _distance(ours: torch.Tensor, reference: torch.Tensor) -> float:
    return _largest(ours.double() - reference.double())


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
