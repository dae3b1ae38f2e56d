"""Weights that a registered module starts from, in place of initial values: blocks of the whole tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from torch import Tensor

from counterpoint.errors import ConfigError
from counterpoint.parallelize.blocks import Block
from counterpoint.plan.sizes import CustomSizes, ModelSizes

_PREFIX = "embed.tower."


@final
@dataclass(frozen=True)
class StartingWeights:
    """Whole tensors by their names in the registered module that is called `name`; none for another model."""

    name: str = ""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def fill_(self, local: Tensor, block: Block) -> None:
        """Put the block of a tensor into a local one, in place, if there is one.

        Raises ConfigError for one of another shape.
        """
        given = self.tensors.get(block.name.removeprefix(_PREFIX)) if block.name.startswith(_PREFIX) else None
        if given is None:
            return
        if tuple(given.shape) != block.global_shape:
            raise ConfigError(
                f"the weights of the registered module {self.name}: got the shape {tuple(given.shape)} for "
                f"{block.name.removeprefix(_PREFIX)}, expected {block.global_shape}; read those of the same options"
            )
        local[block.local_slices].copy_(given[block.global_slices])


def starting_weights(sizes: ModelSizes) -> StartingWeights:
    """What the user gave to start from; raises ConfigError for names that are no parameters."""
    if not isinstance(sizes, CustomSizes) or sizes.weights is None:
        return StartingWeights()
    tensors, known = dict(sizes.weights()), {name for name, _shape in sizes.parameters}
    unknown, missing = sorted(tensors.keys() - known), sorted(known - tensors.keys())
    if unknown or missing:
        raise ConfigError(
            f"the weights of the registered module {sizes.name}: got {unknown or 'none'} beyond its parameters and "
            f"none for {missing or 'none'}, expected one for each; rename, add or drop them in `weights`"
        )
    return StartingWeights(sizes.name, tensors)
