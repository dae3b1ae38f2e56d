"""Selective recomputation: outputs that are cheap to compute again are not kept for backward (Korthikanti et al., 2022,
arXiv:2205.05198), and what is kept may wait in a store.

Whatever a layer saves for backward passes hooks. A tensor that a cheap module made is replaced by the module and its
inputs; the first use in backward computes it again.
"""

from collections.abc import Callable, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from counterpoint.models.chain import Chain
from counterpoint.models.seams import Cheap, Layer
from counterpoint.parallelize.keep import InPlace, Store
from counterpoint.parallelize.offload import HostStore


def apply_discard(chain: Chain, parts: Set[str], spared: Set[str] = frozenset(), store: Store | None = None) -> None:
    """Let layers discard outputs of the cheap modules named in `parts` and hold the rest in the store, in place.

    Layers of the kinds in `spared` recompute everything, so they discard no parts.
    """
    held = InPlace() if store is None else store
    for module in list(chain.modules()):
        if not isinstance(module, Layer):
            continue
        saved = _Saved(held)
        if module.kind not in spared:
            for inner in module.modules():
                if isinstance(inner, Cheap) and inner.what in parts:
                    inner.forward = _Discarding(inner.forward, saved)
        module.forward = _Watched(module, saved, held)


@final
class _Watched:
    """A layer's forward whose saved tensors pass hooks."""

    def __init__(self, layer: nn.Module, saved: "_Saved", store: Store) -> None:
        self._forward: Callable[..., Any] = layer.forward
        self._parameters = layer.parameters
        self._saved, self._store = saved, store

    def __call__(self, *given: Any) -> Any:
        if not torch.is_grad_enabled():
            return self._forward(*given)
        hooks = torch.autograd.graph.saved_tensors_hooks(self._saved.pack, self._saved.unpack)
        with self._scope(), self._saved, hooks:
            return self._forward(*given)

    def _scope(self) -> AbstractContextManager[None]:
        return self._store.scope(self._parameters) if isinstance(self._store, HostStore) else nullcontext()


@dataclass(slots=True)
class _Made:
    """An output of a cheap module, by what makes it again; `uses` are the places in the graph that still need it."""

    function: Callable[..., Tensor]
    inputs: Sequence[Any]
    unpack: Callable[[Any], Tensor]
    uses: int = 0
    found: Tensor | None = None

    def take(self) -> Tensor:
        """The output, kept until the last use."""
        if self.found is None:
            with torch.no_grad():
                given = (None if packed is None else self.unpack(packed) for packed in self.inputs)
                self.found = self.function(*given)
        found, self.uses = self.found, self.uses - 1
        if self.uses <= 0:
            self.found = None
        return found


@dataclass(frozen=True, slots=True)
class _Again:
    """A view of an output that is made again."""

    made: _Made
    size: torch.Size
    stride: tuple[int, ...]
    offset: int


@final
@dataclass(slots=True)
class _Saved(AbstractContextManager[None]):
    """What one layer saves, as a context of its forward."""

    store: Store
    is_open: bool = False
    # Outputs stay alive during forward, so that an address stands for one tensor.
    outputs: dict[int, tuple[Tensor, _Made]] = field(default_factory=dict)

    def __enter__(self) -> None:
        self.is_open = True

    def __exit__(self, *_exception: object) -> None:
        self.is_open = False
        self.outputs.clear()

    def discard(self, out: Tensor, function: Callable[..., Tensor], inputs: Sequence[Tensor | None]) -> None:
        """From now on, what is saved of `out` is made again by the function of the inputs."""
        packed = [None if tensor is None else self.pack(tensor.detach()) for tensor in inputs]
        self.outputs[out.untyped_storage().data_ptr()] = out.detach(), _Made(function, packed, self.unpack)

    def pack(self, tensor: Tensor) -> Any:
        known = self.outputs.get(tensor.untyped_storage().data_ptr()) if self.outputs else None
        if known is None or known[0].dtype != tensor.dtype:
            return self.store.pack(tensor)
        out, made = known
        made.uses += 1
        return _Again(made, tensor.size(), tensor.stride(), int(tensor.storage_offset() - out.storage_offset()))

    def unpack(self, packed: Any) -> Tensor:
        if not isinstance(packed, _Again):
            return self.store.unpack(packed)
        found = packed.made.take()
        return found.as_strided(packed.size, packed.stride, found.storage_offset() + packed.offset)


@final
class _Discarding:
    """The forward of a cheap module whose output is not kept, nor what it computes in between."""

    def __init__(self, forward: Callable[..., Tensor], saved: _Saved) -> None:
        self._forward, self._saved = forward, saved

    def __call__(self, *tensors: Tensor | None) -> Tensor:
        # Inside a compiled region the compiler decides what is kept.
        if torch.compiler.is_compiling() or not self._saved.is_open or not torch.is_grad_enabled():
            return self._forward(*tensors)
        out: Tensor = checkpoint(self._forward, *tensors, use_reentrant=False, preserve_rng_state=False)
        if out.requires_grad:
            self._saved.discard(out, self._forward, tensors)
        return out
