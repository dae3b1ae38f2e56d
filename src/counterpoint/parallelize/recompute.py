"""Activation recomputation: a layer keeps only its input and runs again in backward (Chen et al., arXiv:1604.06174).

It changes no number. Exchanges inside a layer happen again with the layer.
"""

from collections.abc import Callable, Set
from contextlib import AbstractContextManager
from typing import final

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, noop_context_fn

from counterpoint.models.batch import Batch
from counterpoint.models.chain import Chain
from counterpoint.models.seams import Arrived, Dispatch, DispatchState, Layer

Passes = tuple[AbstractContextManager[None], AbstractContextManager[None]]
"""The contexts of a forward and of its recomputation."""


def apply_recompute(chain: Chain, kinds: Set[str]) -> None:
    """Make the layers of these kinds recompute themselves in backward, in place."""
    for module in list(chain.modules()):
        if isinstance(module, Layer) and module.kind in kinds:
            module.forward = _Recomputed(module.forward, _passes(module))


def _passes(layer: nn.Module) -> Callable[[], Passes]:
    """What makes the contexts of each forward; in them a layer's dispatch remembers what it announced."""
    dispatches = {name: module for name, module in layer.named_modules() if isinstance(module, Dispatch)}
    assert len(dispatches) <= 1, "a layer sends rows to experts once"
    for name, dispatch in dispatches.items():
        remembered = _RememberedDispatch(dispatch)
        layer.set_submodule(name, remembered)
        return remembered.passes
    return noop_context_fn


@final
class _Recomputed:
    """A layer's forward that keeps its inputs and runs again in backward; `passes` makes contexts for a forward."""

    def __init__(self, forward: Callable[[Tensor | None, Batch], Tensor], passes: Callable[[], Passes]) -> None:
        self._forward, self._passes = forward, passes

    def __call__(self, rows: Tensor | None, batch: Batch) -> Tensor:
        # A forward draws nothing at random, so no generator state is kept.
        out: Tensor = checkpoint(
            self._forward, rows, batch, use_reentrant=False, preserve_rng_state=False, context_fn=self._passes
        )
        return out


@final
class _RememberedDispatch(Dispatch):
    """A dispatch that announces once per forward: recomputation uses the row counts of the forward."""

    def __init__(self, dispatch: Dispatch) -> None:
        super().__init__()
        self.dispatch = dispatch
        self.announced: list[DispatchState] | None = None

    def passes(self) -> Passes:
        """Contexts of one forward and of its recomputation, which share what was announced."""
        shared = _Remembering(self, [])
        return shared, shared

    def announce(self, experts: Tensor, counts: Tensor, rows: int) -> DispatchState:
        if self.announced is None:
            return self.dispatch.announce(experts, counts, rows)
        if not self.announced:
            self.announced.append(self.dispatch.announce(experts, counts, rows))
        return self.announced[0]

    def send(self, rows: Tensor, weights: Tensor, state: DispatchState) -> Callable[[], Arrived]:
        return self.dispatch.send(rows, weights, state)

    def combine(self, rows: Tensor, state: DispatchState) -> Callable[[], Tensor]:
        return self.dispatch.combine(rows, state)


@final
class _Remembering(AbstractContextManager[None]):
    """Lets a dispatch read and write what one forward announced."""

    def __init__(self, dispatch: _RememberedDispatch, announced: list[DispatchState]) -> None:
        self._dispatch, self._announced = dispatch, announced

    def __enter__(self) -> None:
        self._dispatch.announced = self._announced

    def __exit__(self, *_exception: object) -> None:
        self._dispatch.announced = None
