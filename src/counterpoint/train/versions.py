"""The check that all ranks have loaded the same versions of plug-ins."""

from collections.abc import Mapping, Sequence

import torch.distributed as dist

from counterpoint.errors import InputError


def check_versions(versions: Mapping[str, str], ranks: Sequence[int], group: dist.ProcessGroup | None) -> None:
    """Raise InputError on all `ranks` of the group unless they have loaded the same versions of the same plug-ins."""
    assert group is not None, "only active ranks compare"
    gathered: list[dict[str, str] | None] = [None] * len(ranks)
    dist.all_gather_object(gathered, dict(versions), group=group)
    first, *others = [{} if one is None else one for one in gathered]
    for rank, other in zip(ranks[1:], others, strict=True):
        for name in sorted(first.keys() | other.keys()):
            if first.get(name) != other.get(name):
                raise InputError(
                    f"run.plugins: got {name} {first.get(name, 'not at all')} on rank {ranks[0]} and "
                    f"{other.get(name, 'not at all')} on rank {rank}, expected one version on all ranks; install the "
                    "same one everywhere, and give all ranks the same config"
                )
