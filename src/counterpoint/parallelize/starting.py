"""Initial values that a model's section gives as tensors: each rank takes its block."""

from torch import Tensor

from counterpoint.errors import ConfigError
from counterpoint.kinds.family import Given
from counterpoint.parallelize.blocks import Block


def fill_given_(local: Tensor, block: Block, given: Given | None) -> None:
    """Copy the block of a given tensor, if any, into a local one, in place.

    Raises ConfigError for a tensor of another shape.
    """
    if given is None or not block.name.startswith(given.prefix):
        return
    name = block.name.removeprefix(given.prefix)
    whole = given.tensors.get(name)
    if whole is None:
        return
    if tuple(whole.shape) != block.global_shape:
        raise ConfigError(
            f"the weights of {given.owner}: got the shape {tuple(whole.shape)} for {name}, expected "
            f"{block.global_shape}; read those of the same options"
        )
    local[block.local_slices].copy_(whole[block.global_slices])
