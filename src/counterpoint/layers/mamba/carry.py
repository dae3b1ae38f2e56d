"""The states that enter each chunk of a scan: a pass over the chunks, one after the other.

The pass is a custom operation under a compiler, which would unroll it, and an autograd function otherwise, since a
custom operation costs the host more.
"""

from typing import Any, final

import torch
from torch import Tensor


def carried(states: Tensor, share: Tensor) -> Tensor:
    """E with E[0] = 0 and E[i + 1] = share[i] E[i] + states[i], summed in at least float32.

    states (chunks, groups, state, heads of a group, head_dim) are what the rows of each chunk add, share (chunks,
    groups, heads of a group), of at least float32, is what a chunk leaves of the state that enters it; where it is
    zero nothing passes, not even infinity. Returns the dtype of `states`, in which each E[i] is rounded once.
    """
    if torch.compiler.is_compiling():
        entering: Tensor = _carried_operation(states, share)
    else:
        entering = _Carried.apply(states, share)  # type: ignore[no-untyped-call]
    return entering


def _forward(states: Tensor, share: Tensor) -> Tensor:
    if states.is_cuda and states.numel():
        from counterpoint.layers.mamba.carry_kernel import carry

        return carry(states, share)
    entering = torch.empty_like(states, memory_format=torch.contiguous_format)
    state = torch.zeros_like(states[0], dtype=share.dtype) if states.shape[0] else states
    for index in range(states.shape[0]):
        entering[index] = state
        state = states[index] + _left(state, share[index])
    return entering


def _backward(gradient: Tensor, entering: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of the states and of the shares."""
    if entering.is_cuda and entering.numel():
        from counterpoint.layers.mamba.carry_kernel import carry_back

        return carry_back(gradient, entering, share)
    of_states = torch.empty_like(entering, memory_format=torch.contiguous_format)
    of_share = torch.empty_like(share)
    later = torch.zeros_like(entering[0], dtype=share.dtype) if entering.shape[0] else entering
    for index in reversed(range(entering.shape[0])):
        of_states[index] = later
        of_share[index] = (later * entering[index]).sum(dim=(1, 3))
        later = gradient[index] + _left(later, share[index])
    return of_states, of_share


def _left(state: Tensor, share: Tensor) -> Tensor:
    """A state (groups, state, heads, head_dim) times its shares (groups, heads)."""
    share = share[:, None, :, None]
    return torch.where(share == 0, 0, share * state)


@final
class _Carried(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, share: Tensor) -> Tensor:
        entering = _forward(states, share)
        ctx.save_for_backward(entering, share)
        return entering

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        return _backward(gradients[0], *ctx.saved_tensors)


@torch.library.custom_op("counterpoint::carried", mutates_args=())
def _carried_operation(states: Tensor, share: Tensor) -> Tensor:
    return _forward(states, share)


@_carried_operation.register_fake
def _(states: Tensor, share: Tensor) -> Tensor:  # noqa: ARG001
    return torch.empty_like(states, memory_format=torch.contiguous_format)


@torch.library.custom_op("counterpoint::carried_backward", mutates_args=())
def _backward_operation(gradient: Tensor, entering: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    return _backward(gradient, entering, share)


@_backward_operation.register_fake
def _(gradient: Tensor, entering: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    return torch.empty_like(entering, memory_format=torch.contiguous_format), torch.empty_like(share)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(output, inputs[1])


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
    of_states, of_share = _backward_operation(gradient, *ctx.saved_tensors)
    return of_states, of_share


_carried_operation.register_autograd(_gradients, setup_context=_keep)
