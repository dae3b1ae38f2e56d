"""All tensors of a model: a checkpoint's to ours and back, with every name and shape accounted for."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from counterpoint.convert.accounts import demand_same, demand_shape, refuse
from counterpoint.convert.families import family_named
from counterpoint.convert.links import Link
from counterpoint.models.chain import build_chain
from counterpoint.models.decoder import decoder_parts
from counterpoint.plan.sizes import DecoderSizes

_NAME_IT = "choose another, or name what begins anew in init_from.fresh"


def to_ours(
    family: str, tensors: Mapping[str, Tensor], sizes: DecoderSizes, fresh: Collection[str] = ()
) -> dict[str, Tensor]:
    """A checkpoint's tensors as the parameters and buffers of our decoder; raises CheckpointError.

    Tensors keep dtype and device, and may share memory with those handed in. Those of ours that are named in `fresh`
    may be without a place in it.
    """
    links, ours = _links_and_shapes(family, sizes, fresh)
    demand_same(f"The {family} checkpoint", tensors, _converted(links, ours))
    return {
        name: tensor
        for link in links
        for name, tensor in zip(link.ours, link.to_ours([tensors[n] for n in link.theirs]), strict=True)
    }


def from_ours(
    family: str, tensors: Mapping[str, Tensor], sizes: DecoderSizes, fresh: Collection[str] = ()
) -> dict[str, Tensor]:
    """The way back: parameters and buffers of our decoder as a checkpoint's tensors; raises CheckpointError."""
    links, ours = _links_and_shapes(family, sizes, fresh)
    demand_same("The model", tensors, ours)
    return _converted(links, tensors)


def demand_tensors(
    owner: str, shapes: Mapping[str, tuple[int, ...]], family: str, sizes: DecoderSizes, fresh: Collection[str]
) -> list[Link]:
    """The links of a model to a checkpoint that has tensors of these `shapes`; raises CheckpointError.

    The checkpoint may lack what only parameters of ours named in `fresh` have.
    """
    links, ours = _links_and_shapes(family, sizes, fresh)
    theirs = _converted(links, ours)
    needed = {name for link in links if not set(link.ours) <= set(fresh) for name in link.theirs}
    refuse(owner, "lacks", needed - shapes.keys(), _NAME_IT)
    refuse(owner, "has the unknown", shapes.keys() - theirs.keys())
    for name in sorted(needed):
        demand_shape(owner, name, shapes[name], theirs[name])
    return links


def _links_and_shapes(family: str, sizes: DecoderSizes, fresh: Collection[str]) -> tuple[list[Link], dict[str, Tensor]]:
    """The links, and our tensors without values; together they leave out nothing that is not `fresh`."""
    links = list(family_named(family).links(sizes))
    with torch.device("meta"):
        ours: dict[str, Tensor] = build_chain(decoder_parts(sizes)).state_dict()
    linked = {name for link in links for name in link.ours}
    refuse(f"A {family} checkpoint", "has no place for", ours.keys() - linked - set(fresh), _NAME_IT)
    refuse(f"A model for a {family} checkpoint", "needs", linked - ours.keys())
    return links, ours


def _converted(links: Sequence[Link], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor
        for link in links
        for name, tensor in zip(link.theirs, link.to_theirs([ours[n] for n in link.ours]), strict=True)
    }
