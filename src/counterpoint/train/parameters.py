"""A rank's shard of one parameter: the tensor that lives here, and the block of the global tensor that it is."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from counterpoint.parallelize.blocks import Block, whole_block
from counterpoint.parallelize.fsdp import local


@dataclass(frozen=True, slots=True)
class LocalParameter:
    """One parameter of `module` on this rank; `replicas` is how many ranks hold this same shard.

    `everywhere` gives the blocks of the ranks of its stage, in their order; by default this rank is alone.
    """

    module: str
    block: Block
    parameter: nn.Parameter
    replicas: int
    everywhere: Callable[[], tuple[Block, ...]] | None = None

    @property
    def blocks(self) -> tuple[Block, ...]:
        """What the ranks of its stage hold of the parameter, in their order."""
        return (self.block,) if self.everywhere is None else self.everywhere()

    @property
    def key(self) -> str:
        """The layout-free name under which it is stored: `vision.layers.0.attention.q.weight`."""
        return f"{self.module}.{self.block.name}"

    @property
    def is_trained(self) -> bool:
        """Whether it has a gradient and an optimizer's state."""
        return self.parameter.requires_grad

    @property
    def value(self) -> torch.Tensor:
        """The local shard, sharing memory."""
        return local(self.parameter.detach())

    @property
    def gradient(self) -> torch.Tensor:
        """The local shard of the reduced gradient, sharing memory."""
        assert self.parameter.grad is not None, "the reduce action comes before the step action"
        return local(self.parameter.grad)


@dataclass(frozen=True, slots=True)
class LocalBuffer:
    """State of `module` that no gradient moves, `name` in the whole model; every rank of its stage holds all of it."""

    module: str
    name: str
    value: torch.Tensor

    @property
    def key(self) -> str:
        """The layout-free name under which it is stored: `language.layers.1.moe.router.bias`."""
        return f"{self.module}.{self.name}"

    @property
    def block(self) -> Block:
        """The whole tensor."""
        return whole_block(self.name, tuple(self.value.shape))
