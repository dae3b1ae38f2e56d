"""Compares the tensors of a checkpoint with those expected: one error names what is missing, unknown or different."""

from collections.abc import Collection

from torch import Tensor

from counterpoint.errors import CheckpointError

_NAMED_AT_MOST = 8
_SAME_MODEL = "check that family, sizes and tensors are of one model"


def demand_shape(owner: str, name: str, found: tuple[int, ...], expected: Tensor) -> None:
    """Raise CheckpointError unless a tensor has the shape of the one expected."""
    if found != tuple(expected.shape):
        raise CheckpointError(f"{owner} has {name} of shape {found}, expected {tuple(expected.shape)}: {_SAME_MODEL}.")


def refuse(owner: str, verb: str, names: set[str], remedy: str = _SAME_MODEL) -> None:
    """Raise CheckpointError if there are any names; the verb says what is wrong with them."""
    if names:
        raise CheckpointError(f"{owner} {verb} {listed(names)}: {remedy}.")


def listed(names: Collection[str]) -> str:
    """Names as a message lists them, the first few of many."""
    rest = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return f"{', '.join(sorted(names)[:_NAMED_AT_MOST])}{rest}"
