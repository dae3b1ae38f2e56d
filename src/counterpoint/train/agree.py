"""What ranks do together: where it fails on one, it fails on all of them, and none waits for another."""

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

from counterpoint.errors import CounterpointError, DamagedCheckpointError, RunError

_T = TypeVar("_T")


def agreed(group: dist.ProcessGroup | None, act: Callable[[], _T]) -> _T:
    """`act()` of this rank, once all ranks of the group are through with theirs; without a group, of this process.

    Raises on all of them what it raised on the first rank; damage that one saw is said only if nothing else went wrong.
    """
    error: CounterpointError | None = None
    try:
        result = act()
    except CounterpointError as raised:
        error = raised
    except OSError as raised:
        error = RunError(f"{type(raised).__name__}: {raised}")
    if group is not None:
        gathered: list[CounterpointError | None] = [None] * group.size()
        dist.all_gather_object(gathered, error, group=group)
        error = worst([one for one in gathered if one is not None])
    if error is not None:
        raise error
    return result


def worst(errors: list[CounterpointError]) -> CounterpointError | None:
    """The first of these that is not mere damage, else the first; None of none."""
    return min(errors, key=lambda error: isinstance(error, DamagedCheckpointError), default=None)
