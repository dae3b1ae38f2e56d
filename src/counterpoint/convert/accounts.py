"""Tensors that are there and tensors that should be: what is missing, unknown or unlike, in one sentence."""

from collections.abc import Mapping

from torch import Tensor

from counterpoint.errors import CheckpointError

_NAMED_AT_MOST = 8
_SAME_MODEL = "check that family, sizes and tensors are of one model"


def demand_same(owner: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless the tensors found are those expected, by name and shape."""
    refuse(owner, "lacks", expected.keys() - found.keys())
    refuse(owner, "has the unknown", found.keys() - expected.keys())
    for name, tensor in expected.items():
        demand_shape(owner, name, tuple(found[name].shape), tensor)


def demand_shape(owner: str, name: str, found: tuple[int, ...], expected: Tensor) -> None:
    """Raise CheckpointError unless a tensor has the shape of the one expected."""
    if found != tuple(expected.shape):
        raise CheckpointError(f"{owner} has {name} of shape {found}, expected {tuple(expected.shape)}: {_SAME_MODEL}.")


def refuse(owner: str, verb: str, names: set[str], remedy: str = _SAME_MODEL) -> None:
    """Raise CheckpointError if there are names of which the verb is true."""
    if names:
        shown = ", ".join(sorted(names)[:_NAMED_AT_MOST])
        rest = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
        raise CheckpointError(f"{owner} {verb} {shown}{rest}: {remedy}.")
