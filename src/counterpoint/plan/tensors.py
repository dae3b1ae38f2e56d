"""Parameters of a part by name and shape, from which its facts are counted."""

from collections.abc import Iterable, Iterator
from math import prod

Tensors = tuple[tuple[str, tuple[int, ...]], ...]
"""Parameters by their names inside a part, with their shapes."""


def linear(name: str, inputs: int, outputs: int, bias: bool) -> Tensors:
    """A weight (outputs, inputs) and, with `bias`, a bias (outputs,)."""
    return ((f"{name}.weight", (outputs, inputs)), *(((f"{name}.bias", (outputs,)),) if bias else ()))


def mlp(name: str, inputs: int, inner: int, outputs: int, *, bias: bool, is_gated: bool = False) -> Tensors:
    """Two linear layers and, if `is_gated`, a third as the gate."""
    gate = linear(f"{name}.gate", inputs, inner, bias) if is_gated else ()
    return (*gate, *linear(f"{name}.up", inputs, inner, bias), *linear(f"{name}.down", inner, outputs, bias))


def norm(name: str, width: int, kind: str) -> Tensors:
    """The parameters of a norm inside a part; `name` is empty if the norm is the part."""
    pieces = {"layer": ("weight", "bias"), "rms": ("weight",), "none": ()}[kind]
    return tuple((f"{name}.{piece}" if name else piece, (width,)) for piece in pieces)


def joined(groups: Iterable[Tensors]) -> Tensors:
    """The tensors of all groups."""
    return tuple(tensor for group in groups for tensor in group)


def below(name: str, tensors: Tensors) -> Tensors:
    """The tensors of a submodule under its `name` in the part."""
    return tuple((f"{name}.{inner}", shape) for inner, shape in tensors)


def elements(tensors: Tensors) -> Iterator[tuple[str, int]]:
    """Names and numbers of elements."""
    return ((name, prod(shape)) for name, shape in tensors)


def products(tensors: Tensors) -> int:
    """FLOPs per row of the matrix products with the weights among `tensors`."""
    return 2 * sum(count for name, count in elements(tensors) if name.endswith(".weight"))
