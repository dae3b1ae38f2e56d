"""Which of our tensors a checkpoint of one or more modules has."""

from collections.abc import Mapping

import torch
from torch import Tensor

from counterpoint.convert.composite import Stored
from counterpoint.families.parts import parts_of
from counterpoint.models.chain import build_chain

Tensors = Mapping[str, Tensor]


def kept_tensors(stored: Stored) -> dict[str, Tensor]:
    """Our tensors of a module that a checkpoint has, on the meta device."""
    with torch.device("meta"):
        ours = build_chain(parts_of(stored.model)).state_dict()
    return {name: tensor for name, tensor in ours.items() if not is_added(name, stored)}


def is_added(name: str, stored: Stored) -> bool:
    """Whether a tensor of ours is of a projector that the checkpoint does not have."""
    return stored.adds_projector and name.startswith("projector.")
