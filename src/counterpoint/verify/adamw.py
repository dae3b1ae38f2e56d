"""AdamW said once more for the reference, which shares no rule of it with what it judges."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

import torch

from counterpoint.optimizers.adamw.spec import AdamWSection
from counterpoint.optimizers.muon.spec import MuonSection

VECTORS = (
    "*.bias",
    "*norm.weight",
    "*_scale.weight",
    "*.dynamics.a_log",
    "*.dynamics.d",
    "*.dynamics.dt_bias",
)
"""The parameters of our models that are vectors, which no weight decay shrinks."""


def plain_adamw(
    section: AdamWSection | MuonSection, parameters: Mapping[str, torch.nn.Parameter]
) -> tuple[torch.optim.Optimizer, ...]:
    """Torch's optimizer of whole parameters, each in a group of its own, one after the other."""
    groups = [
        {"params": [one], "weight_decay": 0.0 if is_spared(section, name, one.dim()) else section.weight_decay}
        for name, one in parameters.items()
    ]
    return (torch.optim.AdamW(groups, lr=section.lr, betas=section.betas, eps=section.eps, foreach=False),)


def is_spared(section: AdamWSection | MuonSection, name: str, dims: int) -> bool:
    """Whether weight decay leaves a parameter of `dims` dims alone: a vector, or one that the config names.

    Those of our own models are vectors by their names as well; others have names that say nothing.
    """
    return dims < 2 or any(fnmatchcase(name, pattern) for pattern in (*VECTORS, *section.no_decay))
