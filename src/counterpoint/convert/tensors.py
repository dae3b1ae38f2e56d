"""All tensors of a model: a checkpoint's to ours and back, with every name and shape accounted for."""

from collections.abc import Mapping

import torch
from torch import Tensor

from counterpoint.convert.accounts import demand_same, refuse
from counterpoint.convert.families import family_named
from counterpoint.convert.links import Link, their_tensors
from counterpoint.models.chain import build_chain
from counterpoint.models.decoder import decoder_parts
from counterpoint.plan.sizes import DecoderSizes


def to_ours(family: str, tensors: Mapping[str, Tensor], sizes: DecoderSizes) -> dict[str, Tensor]:
    """A checkpoint's tensors as the parameters and buffers of our decoder; raises CheckpointError.

    Tensors keep dtype and device, and may share memory with those handed in.
    """
    links, ours = _links_and_shapes(family, sizes)
    demand_same(f"The {family} checkpoint", tensors, their_tensors(links, ours))
    return {
        name: tensor
        for link in links
        for name, tensor in zip(link.ours, link.to_ours([tensors[n] for n in link.theirs]), strict=True)
    }


def from_ours(family: str, tensors: Mapping[str, Tensor], sizes: DecoderSizes) -> dict[str, Tensor]:
    """The way back: parameters and buffers of our decoder as a checkpoint's tensors; raises CheckpointError."""
    links, ours = _links_and_shapes(family, sizes)
    demand_same("The model", tensors, ours)
    return their_tensors(links, tensors)


def _links_and_shapes(family: str, sizes: DecoderSizes) -> tuple[list[Link], dict[str, Tensor]]:
    """The links, and our tensors without values; together they leave out nothing."""
    links = list(family_named(family).links(sizes))
    with torch.device("meta"):
        ours: dict[str, Tensor] = build_chain(decoder_parts(sizes)).state_dict()
    linked = {name for link in links for name in link.ours}
    refuse(f"A {family} checkpoint", "has no place for", ours.keys() - linked)
    refuse(f"A model for a {family} checkpoint", "needs", linked - ours.keys())
    return links, ours
