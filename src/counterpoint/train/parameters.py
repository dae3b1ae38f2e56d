"""A rank's shard of a parameter: the local tensor, and its block of the global tensor."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from counterpoint.parallelize.blocks import Block, whole_block
from counterpoint.parallelize.fsdp import local
from counterpoint.parallelize.whole import RoundedCopy


@dataclass(frozen=True, slots=True)
class LocalParameter:
    """One parameter of `module` on this rank; `replicas` is the number of ranks that hold the same shard.

    `everywhere` returns the blocks of all ranks of the stage, in their order; by default only this rank's. Layers
    compute with `copy` where there is one.
    """

    module: str
    block: Block
    parameter: nn.Parameter
    replicas: int
    everywhere: Callable[[], tuple[Block, ...]] | None = None
    copy: RoundedCopy | None = None

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of all ranks of the stage, in their order."""
        return (self.block,) if self.everywhere is None else self.everywhere()

    @property
    def key(self) -> str:
        """Its name in checkpoints, independent of the layout: `vision.layers.0.attention.q.weight`."""
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
        """The local shard of the reduced gradient, sharing memory; where there is a `copy`, of any dtype."""
        assert self.parameter.grad is not None, "the reduce action comes before the step action"
        return local(self.parameter.grad)


@dataclass(frozen=True, slots=True)
class LocalBuffer:
    """A buffer of `module`, called `name` in the whole model; every rank of the stage holds all of it."""

    module: str
    name: str
    value: torch.Tensor

    @property
    def key(self) -> str:
        """Its name in checkpoints, independent of the layout: `language.layers.1.moe.router.bias`."""
        return f"{self.module}.{self.name}"

    @property
    def block(self) -> Block:
        """The block, which is the whole tensor."""
        return whole_block(self.name, tuple(self.value.shape))
