"""Weights that a rank holds whole, such as those of experts that no other rank has: there is nothing to gather or sum.

FSDP2 would copy such weights three times in a step, and their gradients once into a wider dtype. Here layers multiply
with a copy in the computing dtype, which the optimizer may write while it has the values at hand; and the first
gradient of a step stays as backward made it, only further ones are added in the dtype of reduction.
"""

import weakref
from typing import final

import torch
from torch import Tensor, nn

from counterpoint.models.seams import ReadsStored


@final
class RoundedCopy:
    """The copy of a weight that layers multiply with: a leaf of autograd whose gradients go to the weight."""

    def __init__(self, weight: nn.Parameter, compute: torch.dtype, reduce: torch.dtype) -> None:
        self.weight, self._reduce = weight, reduce
        self.values = nn.Parameter(torch.empty_like(weight, dtype=compute), requires_grad=weight.requires_grad)
        self._version: int | None = None
        if weight.requires_grad:
            # Gradients keep the dtype in which they were computed or summed; whoever reads them converts them.
            weight.grad_dtype = None
            self.values.register_post_accumulate_grad_hook(_Mover(self))  # type: ignore[no-untyped-call]

    @property
    def is_current(self) -> bool:
        """Whether the copy holds the weight's values, rounded."""
        return self._version == self.weight._version

    def current(self) -> nn.Parameter:
        """The copy, made again if the weight was written since."""
        if not self.is_current:
            with torch.no_grad():
                self.values.copy_(self.weight)
            self.settle(is_current=True)
        return self.values

    def settle(self, *, is_current: bool) -> None:
        """Declare, after the weight was written, whether the copy was too; kernels of ours may write both unseen."""
        self._version = self.weight._version if is_current else None

    def gradient_dtype(self, *, is_sum: bool) -> torch.dtype:
        """The dtype of a step's gradient: of a sum over several microbatches that of reduction."""
        return self._reduce if is_sum else self.values.dtype

    def add(self, gradient: Tensor) -> None:
        """Add to the weight's gradient; the caller gives up `gradient`."""
        held = self.weight.grad
        if held is None:
            self.weight.grad = gradient
        elif held.dtype == self._reduce:
            held.add_(gradient)
        else:
            self.weight.grad = held.to(self._reduce).add_(gradient)


@final
class _Mover:
    """A hook that moves a copy's gradient to the weight. Python cannot collect what hooks hold, so it holds nothing."""

    def __init__(self, copy: RoundedCopy) -> None:
        self._copy = weakref.ref(copy)

    def __call__(self, values: Tensor) -> None:
        copy, gradient, values.grad = self._copy(), values.grad, None
        assert copy is not None, "what is in use is not freed"
        # There is none where backward left it to a weight action.
        if gradient is not None:
            copy.add(gradient)


@final
class Rounded:
    """In place of `as_stored`: a module's own weights as their copies."""

    def __init__(self, compute: torch.dtype, reduce: torch.dtype) -> None:
        self._dtypes = (compute, reduce)
        self._copies: dict[nn.Parameter, RoundedCopy] = {}

    def __call__(self, weight: nn.Parameter) -> nn.Parameter:
        return self.copy_of(weight).current()

    def copy_of(self, weight: nn.Parameter) -> RoundedCopy:
        """The copy of a weight, which has memory by now."""
        if weight not in self._copies:
            self._copies[weight] = RoundedCopy(weight, *self._dtypes)
        return self._copies[weight]


def round_weights(module: ReadsStored, compute: torch.dtype, reduce: torch.dtype) -> None:
    """Let a module multiply with copies of its weights, in place, unless these and all gradients have their dtype."""
    if any(weight.dtype != dtype for weight in module.parameters() for dtype in (compute, reduce)):
        module.stored = Rounded(compute, reduce)


def copies_of(chain: nn.Module) -> dict[str, RoundedCopy]:
    """The copies in a chain, by the names of their weights."""
    return {
        name: module.stored.copy_of(weight)
        for place, module in chain.named_modules()
        if isinstance(module, ReadsStored) and isinstance(module.stored, Rounded)
        for name, weight in module.named_parameters(place, recurse=False)
    }
