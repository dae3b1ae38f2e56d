"""Losses beside the main one in the reference: the inputs of a head, and the plain losses of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from counterpoint.config.schema import Config
from counterpoint.losses import item_losses, score_losses
from counterpoint.losses.kind import LossSection
from counterpoint.models.linear_loss import LinearLoss
from counterpoint.plan.samples import Document
from counterpoint.sources.source import Source, target_of


class Scored(NamedTuple):
    """The inputs of a head: rows (rows, hidden), the words' matrix (vocab, hidden), labels int64 (rows,), and the
    number of labels in the whole step."""

    rows: Tensor
    matrix: Tensor
    labels: Tensor
    denominator: float


@contextmanager
def scored(chain: nn.Module) -> Iterator[list[Scored]]:
    """Record the head's inputs in forwards inside this context: for each, the further depths' rows first, then all."""
    calls: list[Scored] = []
    hooks = [
        module.register_forward_pre_hook(lambda _module, given: calls.append(Scored(*given)))
        for module in chain.modules()
        if isinstance(module, LinearLoss)
    ]
    yield calls
    for hook in hooks:
        hook.remove()


def score_means(sections: Sequence[LossSection], calls: Sequence[Scored]) -> Iterator[tuple[str, float, list[Tensor]]]:
    """Kind and weight of each further term of scores, and its mean in each of `calls`, 0 where no row has a label."""
    for section, kind in score_losses(sections):
        sums = [kind.plain_sum(section, call.rows @ call.matrix.T, call.labels) for call in calls]
        means = [one / max(call.denominator, 1.0) for one, call in zip(sums, calls, strict=True)]
        yield section.kind, section.weight, means


class ItemMeans:
    """The further losses of items' rows in one step, as parts of their means: one item and one row, or the mean of its
    rows, at a time. `rows_of` counts the rows of an item."""

    def __init__(
        self,
        config: Config,
        sources: Sequence[Source],
        documents: Sequence[Document],
        rows_of: Callable[[Document, int], int],
    ) -> None:
        self._config, self._sources, self._documents, self._rows_of = config, sources, documents, rows_of

    def of(self, document: Document, which: int, rows: Mapping[str, Tensor]) -> Iterator[tuple[str, float, Tensor]]:
        """Name, weight and part of the mean of each loss of an item; `rows` are those that left each module for it."""
        for module, left in rows.items():
            for section, kind in item_losses(self._config.modules[module].losses):
                is_pooled = kind.is_pooled(section)
                own = self._targets((document, which), section.targets, left, of_item=is_pooled)
                compared = [left.mean(dim=0)] if is_pooled else list(left)
                if kind.sees_all:
                    items = self._items(module)
                    given = [self._targets(item, section.targets, left, of_item=is_pooled) for item in items]
                    every = torch.cat(given)
                    losses = [kind.plain_loss(section, compared[0], every, items.index((document, which)))]
                else:
                    losses = [kind.plain_loss(section, row, own, number) for number, row in enumerate(compared)]
                count = sum(1 if is_pooled else self._rows_of(*item) for item in self._items(module))
                yield f"{module}.{section.kind}", section.weight, torch.stack(losses).sum() / count

    def _targets(self, item: tuple[Document, int], name: str, like: Tensor, *, of_item: bool) -> Tensor:
        """The targets of an item, as wide as the rows that they are compared with."""
        document, which = item
        source = self._sources[document.source]
        found = target_of(source, document.index, which, name, like.shape[1], of_item=of_item)
        return torch.from_numpy(found).to(like)

    def _items(self, module: str) -> list[tuple[Document, int]]:
        """All items of the step that pass through a module."""
        return [
            (document, which)
            for document in self._documents
            for which, item in enumerate(document.items)
            if self._leads(item.module, module)
        ]

    def _leads(self, module: str, there: str) -> bool:
        edges = self._config.edges
        return module == there or any(self._leads(edge.target, there) for edge in edges if edge.source == module)
