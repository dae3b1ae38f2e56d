"""Stores of what waits for backward, and a costly function whose output a recomputed layer keeps.

The function runs once. Of the tensors that it saves for its backward, the store holds those that it made, such as
attention's output and log-sum-exp; its inputs are computed again with the layer.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, final

import torch
from torch import Tensor

from counterpoint.models.seams import Costly, call

Passes = tuple[AbstractContextManager[None], AbstractContextManager[None]]
"""The contexts of a forward and of its recomputation."""


class Store(Protocol):
    """Holds tensors between forward and backward."""

    def pack(self, tensor: Tensor) -> Any:
        """What is held in place of a tensor."""

    def unpack(self, packed: Any) -> Tensor:
        """The tensor, on its device, when the current stream needs it."""


@final
class InPlace:
    """Holds tensors as they are."""

    def pack(self, tensor: Tensor) -> Any:
        return tensor

    def unpack(self, packed: Any) -> Tensor:
        assert isinstance(packed, Tensor)
        return packed


@final
class KeptCostly(Costly):
    """A costly function that runs in forward only; recomputation takes the output from `store`."""

    is_kept = True

    def __init__(self, what: str, store: Store) -> None:
        super().__init__(what)
        self._store = store
        self.current: _Recording | _Replaying | None = None

    def passes(self) -> Passes:
        """Contexts of one forward and of its recomputation, which share outputs."""
        kept: list[_Kept] = []
        return _Pass(self, _Recording(self._store, kept)), _Pass(self, _Replaying(self._store, kept))

    def forward(self, function: Callable[..., Tensor], tensors: tuple[Tensor, ...], *others: Any) -> Tensor:
        if self.current is None:
            return call(function, tensors, *others)
        return self.current.run(function, tensors, others)


@dataclass(frozen=True, slots=True)
class _Kept:
    """An output, as the store holds it."""

    packed: Any
    requires_grad: bool


@dataclass(slots=True)
class _Inputs:
    """The inputs of a call after recomputation, from the first use until the call's backward is over."""

    found: tuple[Tensor, ...] | None = None


@dataclass(frozen=True, slots=True)
class _OfInput:
    """A view of an input that the function saved; `anchor` is the node of the graph that has the inputs.

    The node refers to `inputs` too, so those must not refer to the node.
    """

    anchor: Any
    inputs: _Inputs
    number: int
    size: torch.Size
    stride: tuple[int, ...]

    def view(self) -> Tensor:
        # Recomputation gives each tensor once, so all of them are taken at the first use.
        if self.inputs.found is None:
            self.inputs.found = self.anchor.saved_tensors
        given: Tensor = self.inputs.found[self.number]
        return given.as_strided(self.size, self.stride, given.storage_offset())


@dataclass(frozen=True, slots=True)
class _Held:
    """A tensor that the function made and saved."""

    packed: Any


@final
class _Recording:
    """The first run of a forward."""

    def __init__(self, store: Store, kept: list[_Kept]) -> None:
        self._store, self._kept = store, kept

    def begin(self) -> None:
        """Nothing was kept before."""
        assert not self._kept, "a forward runs once"

    def run(self, function: Callable[..., Tensor], tensors: tuple[Tensor, ...], others: tuple[Any, ...]) -> Tensor:
        """Compute, and keep the output."""
        inputs = _Inputs()
        given: tuple[Tensor, ...] = _Anchor.apply(inputs, *tensors)  # type: ignore[no-untyped-call]
        anchor = given[0].grad_fn
        # Until backward torch keeps `pack`, and all that it refers to: no tensor.
        places = {_place(one): number for number, one in enumerate(given)}
        held: list[tuple[Tensor, Any]] = []

        def pack(tensor: Tensor) -> _OfInput | _Held:
            if (number := places.get(_place(tensor))) is not None:
                return _OfInput(anchor, inputs, number, tensor.size(), tensor.stride())
            held.append((tensor, self._store.pack(tensor)))
            return _Held(held[-1][1])

        def unpack(packed: _OfInput | _Held) -> Tensor:
            return packed.view() if isinstance(packed, _OfInput) else self._store.unpack(packed.packed)

        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            out = call(function, given, *others)
        # Kernels save their output, too.
        same = [packed for tensor, packed in held if _is_same(tensor, out)]
        held.clear()
        self._kept.append(_Kept(same[0] if same else self._store.pack(out.detach()), out.requires_grad))
        return out


def _place(tensor: Tensor) -> tuple[int, int, torch.dtype]:
    """Where a live tensor begins, and as what."""
    return tensor.untyped_storage().data_ptr(), int(tensor.storage_offset()), tensor.dtype


def _is_same(tensor: Tensor, out: Tensor) -> bool:
    """Whether two live tensors have the same memory and form."""
    one, two = ((t.data_ptr(), t.size(), t.stride(), t.dtype) for t in (tensor, out))
    return one == two


@final
class _Replaying:
    """A recomputation, which saves the inputs for the function's backward and does not run it."""

    def __init__(self, store: Store, kept: list[_Kept]) -> None:
        self._store, self._kept, self._next = store, kept, 0

    def begin(self) -> None:
        """From the first call on."""
        self._next = 0

    def run(self, _function: Callable[..., Tensor], tensors: tuple[Tensor, ...], _others: tuple[Any, ...]) -> Tensor:
        """The output that was kept."""
        _Anchor.apply(_Inputs(), *tensors)  # type: ignore[no-untyped-call]
        kept = self._kept[self._next]
        self._next += 1
        return self._store.unpack(kept.packed).detach().requires_grad_(kept.requires_grad)


class _Anchor(torch.autograd.Function):
    """The inputs themselves, saved in the layer's graph, where recomputation fills them in."""

    @staticmethod
    def forward(ctx: Any, inputs: _Inputs, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*tensors)
        ctx.inputs = inputs
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # The function's backward is over: what it read of the recomputation may go.
        ctx.inputs.found = None
        return None, *gradients


@final
@dataclass(slots=True)
class _Pass(AbstractContextManager[None]):
    """Lets a costly function read and write what one forward keeps."""

    costly: KeptCostly
    run: _Recording | _Replaying
    before: list[Any] = field(default_factory=list)

    def __enter__(self) -> None:
        self.run.begin()
        self.before.append(self.costly.current)
        self.costly.current = self.run

    def __exit__(self, *_exception: object) -> None:
        self.costly.current = self.before.pop()
