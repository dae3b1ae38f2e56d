"""Which implementation of AdamW updates a rank's shards."""

from collections.abc import Sequence

import torch

from counterpoint.optimizers.adamw.one_pass import OnePassAdamW
from counterpoint.optimizers.adamw.spec import AdamWSection
from counterpoint.optimizers.adamw.update import AdamWUpdate
from counterpoint.optimizers.shard import ScalingUpdate, Shard, Team


def adamw_update(section: AdamWSection, shards: Sequence[Shard], team: Team) -> ScalingUpdate:
    """AdamW for one module's shards on a rank: our kernel on a GPU, which also scales the gradients, else torch's.

    Only ours can round moments to bfloat16.
    """
    if section.moments == "bfloat16":
        return OnePassAdamW(section, shards, team, torch.bfloat16)
    if team.device.type == "cuda":
        return OnePassAdamW(section, shards, team, shards[0].values.dtype)
    return AdamWUpdate(section, shards, team)
