"""AdamW in one pass over memory: the gradients' scale, decay, both moments and their rounding at once.

On a GPU a kernel of ours updates all shards together; on a CPU the same is written in plain torch.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor

from counterpoint.optimizers.adamw.rounding import Places, key_of, places_of, random_bits, rounded
from counterpoint.optimizers.adamw.spec import MOMENTS, AdamWSection
from counterpoint.optimizers.adamw.update import is_exempt
from counterpoint.optimizers.shard import Shard, Team


class State(NamedTuple):
    """A shard's values, its moments, its weight decay, what the rounding of its moments depends on, and where the
    rounded values are written."""

    values: Tensor
    mean: Tensor
    square: Tensor
    decay: float
    key: int
    places: Places
    rounded: Tensor | None


class Scalars(NamedTuple):
    """The numbers of a step, float64 () on the device.

    `is_broken` is 1 if nothing is to be updated. Gradients are multiplied by `scale`. `rate` is `lr` over the bias of
    the running mean, `root` one over the root of that of the running mean of squares. `updates` counts them, with
    this one.
    """

    is_broken: Tensor
    scale: Tensor
    lr: Tensor
    rate: Tensor
    root: Tensor
    updates: Tensor


Pass = Callable[[Sequence[Tensor], Scalars], None]
"""Updates all shards, given their gradients."""


@final
class OnePassAdamW:
    """AdamW for one module's shards on a rank, of which there is at least one; moments have the dtype `moments`."""

    def __init__(self, section: AdamWSection, shards: Sequence[Shard], team: Team, moments: torch.dtype) -> None:
        self.writes_rounded = all(shard.rounded is None or _can_write(shard) for shard in shards)
        self._states = [_state(section, shard, moments) for shard in shards]
        self._betas = torch.tensor(section.betas, dtype=torch.float64, device=team.device)
        self._updates = torch.zeros((), dtype=torch.float64, device=team.device)
        self._one = torch.ones((), dtype=torch.float64, device=team.device)
        self._pass = _pass(section, self._states, team.device)

    def step(self, gradients: Sequence[Tensor], lr: float, is_broken: Tensor) -> None:
        self.step_scaled(gradients, None, lr, is_broken)

    @torch.no_grad()
    def step_scaled(self, gradients: Sequence[Tensor], scale: Tensor | None, lr: float, is_broken: Tensor) -> None:
        self._updates += ~is_broken
        of_mean, of_square = (1.0 - self._betas**self._updates).unbind()
        given = self._one if scale is None else scale.double()
        scalars = Scalars(is_broken.double(), given, self._one * lr, lr / of_mean, of_square.rsqrt(), self._updates)
        self._pass(gradients, scalars)

    def moments(self) -> list[dict[str, Tensor]]:
        return [dict(zip(MOMENTS, (state.mean, state.square), strict=True)) for state in self._states]

    def set_step(self, step: int) -> None:
        self._updates.fill_(float(step))


def _can_write(shard: Shard) -> bool:
    """Whether the kernel rounds values as torch does: once, from float32 to bfloat16."""
    rounded = None if shard.rounded is None else shard.rounded.dtype
    return (shard.values.dtype, rounded) == (torch.float32, torch.bfloat16)


def _state(section: AdamWSection, shard: Shard, moments: torch.dtype) -> State:
    mean, square = (torch.zeros_like(shard.values, dtype=moments) for _moment in MOMENTS)
    decay = 0.0 if is_exempt(section, shard.name, len(shard.whole)) else section.weight_decay
    rounded = shard.rounded if _can_write(shard) else None
    return State(shard.values, mean, square, decay, key_of(shard.name), places_of(shard), rounded)


def _pass(section: AdamWSection, states: Sequence[State], device: torch.device) -> Pass:
    if device.type == "cpu":
        return PlainPass(section, states)
    from counterpoint.optimizers.adamw.kernel import KernelPass

    return KernelPass(section, states)


@final
class PlainPass:
    """The update in plain torch, shard by shard; the host reads the step's scalars."""

    def __init__(self, section: AdamWSection, states: Sequence[State]) -> None:
        self._section, self._states = section, states

    def __call__(self, gradients: Sequence[Tensor], scalars: Scalars) -> None:
        if scalars.is_broken:
            return
        for state, gradient in zip(self._states, gradients, strict=True):
            self._update(state, gradient, scalars)

    def _update(self, state: State, gradient: Tensor, scalars: Scalars) -> None:
        (beta, beta_of_square), values = self._section.betas, state.values
        gradient = gradient.to(values.dtype) * scalars.scale.to(values.dtype)
        mean = torch.lerp(state.mean.to(values.dtype), gradient, 1.0 - beta)
        square = torch.lerp(state.square.to(values.dtype), gradient.square(), 1.0 - beta_of_square)
        values.mul_(1.0 - float(scalars.lr) * state.decay)
        divisor = square.sqrt().mul_(float(scalars.root)).add_(self._section.eps)
        values.addcdiv_(mean, divisor, value=-float(scalars.rate))
        if state.mean.dtype == torch.bfloat16:
            bits = random_bits(state.places, state.key, int(scalars.updates))
            mean, square = rounded(mean, bits), rounded(square, bits >> 16)
        state.mean.copy_(mean)
        state.square.copy_(square)
        if state.rounded is not None:
            state.rounded.copy_(values)
