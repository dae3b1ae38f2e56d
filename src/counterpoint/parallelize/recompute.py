"""Activation recomputation: a layer keeps only its input and runs again in backward (Chen et al., arXiv:1604.06174).

It changes no number. Exchanges inside a layer happen again with the layer. A layer may also keep the outputs of costly
functions, which then run in forward only.
"""

from collections.abc import Callable, Sequence, Set
from contextlib import AbstractContextManager, ExitStack
from typing import final

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from counterpoint.models.batch import Batch
from counterpoint.models.chain import Chain
from counterpoint.models.seams import Arrived, Costly, Dispatch, DispatchState, Layer
from counterpoint.parallelize.keep import InPlace, KeptCostly, Passes, Store


def apply_recompute(chain: Chain, kinds: Set[str], keeps: Set[str] = frozenset(), store: Store | None = None) -> None:
    """Make the layers of these kinds recompute themselves in backward, in place.

    They keep the outputs of the costly functions named in `keeps` in the store, by default where they are.
    """
    held = InPlace() if store is None else store
    for module in list(chain.modules()):
        if isinstance(module, Layer) and module.kind in kinds:
            remembering: list[_RememberedDispatch | KeptCostly] = [*_dispatches(module), *_costly(module, keeps, held)]
            module.forward = _Recomputed(module.forward, [one.passes for one in remembering])


def _dispatches(layer: nn.Module) -> "list[_RememberedDispatch]":
    """A layer's dispatch, which now remembers what it announced."""
    dispatches = {name: module for name, module in layer.named_modules() if isinstance(module, Dispatch)}
    assert len(dispatches) <= 1, "a layer sends rows to experts once"
    remembered = {name: _RememberedDispatch(dispatch) for name, dispatch in dispatches.items()}
    for name, module in remembered.items():
        layer.set_submodule(name, module)
    return list(remembered.values())


def _costly(layer: nn.Module, keeps: Set[str], store: Store) -> list[KeptCostly]:
    """A layer's costly functions of these names, whose outputs are now kept."""
    found = {name: module for name, module in layer.named_modules() if type(module) is Costly and module.what in keeps}
    kept = {name: KeptCostly(module.what, store) for name, module in found.items()}
    for name, module in kept.items():
        layer.set_submodule(name, module)
    return list(kept.values())


@final
class _Recomputed:
    """A layer's forward that keeps its inputs and runs again in backward; `passes` make contexts for a forward."""

    def __init__(
        self, forward: Callable[[Tensor | None, Batch], Tensor], passes: Sequence[Callable[[], Passes]]
    ) -> None:
        self._forward, self._passes = forward, passes

    def __call__(self, rows: Tensor | None, batch: Batch) -> Tensor:
        # A forward draws nothing at random, so no generator state is kept.
        out: Tensor = checkpoint(
            self._forward, rows, batch, use_reentrant=False, preserve_rng_state=False, context_fn=self._contexts
        )
        return out

    def _contexts(self) -> Passes:
        pairs = [passes() for passes in self._passes]
        return _Together([first for first, _again in pairs]), _Together([again for _first, again in pairs])


@final
class _Together(AbstractContextManager[None]):
    """Several contexts as one."""

    def __init__(self, contexts: Sequence[AbstractContextManager[None]]) -> None:
        self._contexts = contexts
        self._entered = ExitStack()

    def __enter__(self) -> None:
        for context in self._contexts:
            self._entered.enter_context(context)

    def __exit__(self, *_exception: object) -> None:
        self._entered.close()


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

    def announce(self, experts: Tensor, counts: Tensor, rows: int, *, is_even: bool) -> DispatchState:
        if self.announced is None:
            return self.dispatch.announce(experts, counts, rows, is_even=is_even)
        if not self.announced:
            self.announced.append(self.dispatch.announce(experts, counts, rows, is_even=is_even))
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
