"""Actions that fail on all ranks if they fail on one, so that no rank waits for another that has failed."""

from collections.abc import Callable
from typing import TypeVar

from counterpoint.errors import CounterpointError, DamagedCheckpointError, RunError
from counterpoint.execute.tree import Tree

_T = TypeVar("_T")


def agreed(tree: Tree | None, act: Callable[[], _T]) -> _T:
    """Run `act` on every rank of the tree and return its own result; without a tree, only in this process.

    If `act` raised on any rank, all ranks raise the error of the first such rank; DamagedCheckpointError counts only
    if no other error occurred.
    """
    error: CounterpointError | None = None
    try:
        result = act()
    except CounterpointError as raised:
        error = raised
    except OSError as raised:
        error = RunError(f"{type(raised).__name__}: {raised}")
    if tree is not None:
        error = tree.merged(error, lambda errors: worst([one for one in errors if one is not None]))
    if error is not None:
        raise error
    return result


def worst(errors: list[CounterpointError]) -> CounterpointError | None:
    """The first error that is no DamagedCheckpointError, else the first; None if there is none."""
    return min(errors, key=lambda error: isinstance(error, DamagedCheckpointError), default=None)
