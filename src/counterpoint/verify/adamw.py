"""AdamW written a second time for the reference, which shares none of its rules with the code under test."""

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
"""The vectors among our models' parameters, which have no weight decay."""


def plain_adamw(
    section: AdamWSection | MuonSection, parameters: Mapping[str, torch.nn.Parameter]
) -> tuple[torch.optim.Optimizer, ...]:
    """Torch's AdamW of whole parameters, each in a group of its own, updated one after the other."""
    groups = [
        {"params": [one], "weight_decay": 0.0 if is_spared(section, name, one.dim()) else section.weight_decay}
        for name, one in parameters.items()
    ]
    return (torch.optim.AdamW(groups, lr=section.lr, betas=section.betas, eps=section.eps, foreach=False),)


def is_spared(section: AdamWSection | MuonSection, name: str, dims: int) -> bool:
    """Whether a parameter of `dims` dims has no weight decay: a vector, or one that the config names.

    In our own models names tell vectors as well; in other models they do not.
    """
    return dims < 2 or any(fnmatchcase(name, pattern) for pattern in (*VECTORS, *section.no_decay))
