"""The same for whole parameters, by torch's own optimizer: what `verify` compares the update of shards with."""

from collections.abc import Mapping

import torch

from counterpoint_example.nesterov.spec import NesterovSection


def plain_nesterov(
    section: NesterovSection, parameters: Mapping[str, torch.nn.Parameter]
) -> tuple[torch.optim.Optimizer, ...]:
    """Torch's optimizer of a module's parameters by their names."""
    groups = [
        {"params": [one], "weight_decay": section.weight_decay if one.dim() > 1 else 0.0} for one in parameters.values()
    ]
    return (torch.optim.SGD(groups, lr=section.lr, momentum=section.momentum, nesterov=section.momentum > 0),)
