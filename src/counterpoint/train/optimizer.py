"""AdamW per module over local shards, and its learning-rate schedule."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch

from counterpoint.config.schema import OptimizerConfig
from counterpoint.parallelize.fsdp import local
from counterpoint.train.parameters import LocalParameter


def learning_rate(config: OptimizerConfig, step: int, total_steps: int) -> float:
    """The learning rate of optimizer step `step` (from 0): linear warm-up, then constant, linear or cosine decay.

    Decay runs from the end of warm-up to `decay_steps` (the training's steps unless given) and ends at
    `minimum` x lr; cosine is Loshchilov and Hutter 2016 (arXiv:1608.03983) without restarts.
    """
    schedule = config.schedule
    if step < schedule.warmup_steps:
        return config.lr * (step + 1) / schedule.warmup_steps
    end = total_steps if schedule.decay_steps is None else schedule.decay_steps
    span = max(end - schedule.warmup_steps, 1)
    done = min((step - schedule.warmup_steps) / span, 1.0)
    match schedule.kind:
        case "constant":
            left = 1.0
        case "linear":
            left = 1.0 - done
        case "cosine":
            left = 0.5 * (1.0 + math.cos(math.pi * done))
    return config.lr * (schedule.minimum + (1.0 - schedule.minimum) * left)


@dataclass(frozen=True, slots=True)
class Clipping:
    """What a step does with all gradients, as scalars on the device: multiply them by `scale`, float64, None for 1,
    and update nothing if `is_broken`."""

    scale: torch.Tensor | None
    is_broken: torch.Tensor


class ModuleOptimizer:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) of one module's shards on this rank.

    It works on plain local tensors that share memory with the sharded parameters.
    """

    def __init__(self, config: OptimizerConfig, parameters: Iterable[LocalParameter]) -> None:
        self._config = config
        self._parameters = tuple(parameters)
        self._pairs = [(p, local(p.parameter.detach())) for p in self._parameters if p.block.numel]
        decayed: list[torch.Tensor] = []
        exempt: list[torch.Tensor] = []
        for parameter, tensor in self._pairs:
            (exempt if is_exempt(config, parameter.block.name, len(parameter.block.global_shape)) else decayed).append(
                tensor
            )
        groups = [
            {"params": tensors, "weight_decay": decay}
            for tensors, decay in ((decayed, config.weight_decay), (exempt, 0.0))
            if tensors
        ]
        self._adamw = (
            torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True) if groups else None
        )

    def step(self, lr: float, clipping: Clipping) -> None:
        """Update with scaled gradients, then drop the gradients; never waits for the device."""
        if self._adamw is not None:
            self._update(self._adamw, lr, clipping)
        # Also those without elements: each is a view of the sums of a whole group, which it would keep.
        for parameter in self._parameters:
            parameter.parameter.grad = None

    def _update(self, adamw: torch.optim.AdamW, lr: float, clipping: Clipping) -> None:
        gradients = []
        for parameter, tensor in self._pairs:
            gradients.append(parameter.gradient)
            tensor.grad = gradients[-1]
        if clipping.scale is not None:
            torch._foreach_mul_(gradients, clipping.scale.to(gradients[0].dtype))
        for group in adamw.param_groups:
            group["lr"] = lr
        # The fused kernel leaves all as it was, its count of steps too, where this is 1.
        adamw.found_inf = clipping.is_broken.float()  # type: ignore[attr-defined]
        adamw.step()
        for _parameter, tensor in self._pairs:
            tensor.grad = None

    def moments(self) -> Iterator[tuple[LocalParameter, str, torch.Tensor]]:
        """Each shard's `exp_avg` and `exp_avg_sq`, sharing memory; made, zero, where no step was taken yet."""
        for parameter, tensor in self._pairs:
            state = self._state(tensor)
            for name in ("exp_avg", "exp_avg_sq"):
                yield parameter, name, state[name]

    def set_step(self, step: int) -> None:
        """Continue as after `step` updates."""
        for _parameter, tensor in self._pairs:
            self._state(tensor)["step"].fill_(float(step))

    def _state(self, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
        assert self._adamw is not None, "a rank with shards has an optimizer"
        state: dict[str, torch.Tensor] = self._adamw.state[tensor]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=tensor.device)
            state["exp_avg"] = torch.zeros_like(tensor)
            state["exp_avg_sq"] = torch.zeros_like(tensor)
        return state


def is_exempt(config: OptimizerConfig, name: str, dims: int) -> bool:
    """Whether weight decay spares a parameter: vectors, and names that match a pattern of `no_decay`."""
    return dims < 2 or any(fnmatchcase(name, pattern) for pattern in config.no_decay)
