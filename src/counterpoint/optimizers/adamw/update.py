"""AdamW for the shards of one rank, with torch's fused kernel."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch

from counterpoint.optimizers.adamw.spec import MOMENTS, AdamWSection
from counterpoint.optimizers.shard import Shard, Team


class AdamWUpdate:
    """AdamW for one module's shards on a rank; there is at least one."""

    writes_rounded = False

    def __init__(self, section: AdamWSection, shards: Sequence[Shard], _team: Team) -> None:
        self._values = [shard.values for shard in shards]
        decayed = [shard.values for shard in shards if not is_exempt(section, shard.name, len(shard.whole))]
        exempt = [shard.values for shard in shards if is_exempt(section, shard.name, len(shard.whole))]
        groups = [
            {"params": values, "weight_decay": decay}
            for values, decay in ((decayed, section.weight_decay), (exempt, 0.0))
            if values
        ]
        self._adamw = torch.optim.AdamW(groups, lr=section.lr, betas=section.betas, eps=section.eps, fused=True)

    def step(self, gradients: Sequence[torch.Tensor], lr: float, is_broken: torch.Tensor) -> None:
        for values, gradient in zip(self._values, gradients, strict=True):
            values.grad = gradient
        for group in self._adamw.param_groups:
            group["lr"] = lr
        # If this is 1, the fused kernel changes nothing, not even its step count.
        self._adamw.found_inf = is_broken.float()  # type: ignore[attr-defined]
        self._adamw.step()
        for values in self._values:
            values.grad = None

    def step_scaled(
        self, gradients: Sequence[torch.Tensor], scale: torch.Tensor | None, lr: float, is_broken: torch.Tensor
    ) -> None:
        own = [gradient.to(values.dtype) for values, gradient in zip(self._values, gradients, strict=True)]
        if scale is not None:
            torch._foreach_mul_(own, scale.to(own[0].dtype))
        self.step(own, lr, is_broken)

    def moments(self) -> list[dict[str, torch.Tensor]]:
        return [{name: self._state(values)[name] for name in MOMENTS} for values in self._values]

    def set_step(self, step: int) -> None:
        for values in self._values:
            self._state(values)["step"].fill_(float(step))

    def _state(self, values: torch.Tensor) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = self._adamw.state[values]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=values.device)
            state |= {name: torch.zeros_like(values) for name in MOMENTS}
        return state


def is_exempt(section: AdamWSection, name: str, dims: int) -> bool:
    """Whether a parameter has no weight decay: vectors, and names that match a pattern of `no_decay`."""
    return dims < 2 or any(fnmatchcase(name, pattern) for pattern in section.no_decay)
