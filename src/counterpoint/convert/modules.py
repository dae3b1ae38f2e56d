"""Which of our tensors a checkpoint of one or more modules has, and whether its copies are equal."""

from collections.abc import Mapping

import torch
from torch import Tensor

from counterpoint.convert.composite import Stored
from counterpoint.errors import CheckpointError
from counterpoint.families.parts import parts_of
from counterpoint.models.chain import build_chain

Tensors = Mapping[str, Tensor]


def demand_copies(owner: str, stored: Stored, tensors: Tensors) -> None:
    """Raise CheckpointError if a tensor differs from the one that it should copy."""
    for copy, original in stored.copies:
        if copy in tensors and original in tensors and not torch.equal(tensors[copy], tensors[original]):
            raise CheckpointError(
                f"{owner} has a {copy} that is not {original}, although its config.json says that words are tied: set "
                "tie_word_embeddings there to false, or choose another model."
            )


def kept_tensors(stored: Stored) -> dict[str, Tensor]:
    """Our tensors of a module that a checkpoint has, on the meta device."""
    with torch.device("meta"):
        ours = build_chain(parts_of(stored.model)).state_dict()
    return {name: tensor for name, tensor in ours.items() if not is_added(name, stored)}


def is_added(name: str, stored: Stored) -> bool:
    """Whether a tensor of ours is of a projector that the checkpoint does not have."""
    return stored.adds_projector and name.startswith("projector.")
