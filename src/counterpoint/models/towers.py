"""The encoders of a graph in one process: from the items of a batch to what is added to the rows that read them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from counterpoint.models.batch import Batch, FeatureBatch, Insert
from counterpoint.models.chain import MAIN, Chain, port_of
from counterpoint.models.segments import Segments


class Wire(NamedTuple):
    """Rows of `source` enter `target`; for each of `depths` (after, into), rows after one layer are added after
    another."""

    source: str
    target: str
    depths: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Items:
    """Images, clips or features that one encoder takes: `batch`, the rows int64 (rows,) of what leaves it that are
    `kept`, `lengths` of those of each item, and `places` int64 (rows,) of them among the rows of the module that reads
    documents."""

    batch: Batch
    kept: Tensor
    lengths: tuple[int, ...]
    places: Tensor


@dataclass
class Towers:
    """Encoders wired to one another; `items` are by the encoder that takes them, which no wire enters.

    An encoder of features holds the items of all such roots, root after root, and runs once.
    """

    chains: Mapping[str, Chain]
    wires: tuple[Wire, ...]
    items: Mapping[str, Items]
    _outputs: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)

    def into(self, sink: str) -> tuple[tuple[Insert, ...], dict[int, tuple[Insert, ...]]]:
        """The features added to the rows of the module that reads documents: before all layers, and after some."""
        inserts: list[Insert] = []
        deep: dict[int, tuple[Insert, ...]] = {}
        for wire in self._carrying(sink):
            outputs = self._run(wire.source)
            index = torch.cat([self.items[root].places for root in self._roots(wire.source)])
            inserts.append((outputs[MAIN], index))
            for after, layer in wire.depths:
                deep[layer] = (*deep.get(layer, ()), (outputs[port_of(after)], index))
        return tuple(inserts), deep

    def _run(self, module: str) -> Mapping[str, Tensor]:
        if module not in self._outputs:
            items = self.items.get(module)
            outputs = self.chains[module](None, self._features(module) if items is None else items.batch)
            kept = {port: rows if items is None else rows.index_select(0, items.kept) for port, rows in outputs.items()}
            self._outputs[module] = kept
        return self._outputs[module]

    def _features(self, module: str) -> FeatureBatch:
        """The rows of the items of all roots, root after root, to which their features are added."""
        lengths = {root: self.items[root].lengths for root in self._roots(module)}
        starts, rows = {}, 0
        for root, extents in lengths.items():
            starts[root], rows = rows, rows + sum(extents)
        device = next(self.chains[module].parameters()).device
        inserts = []
        for wire in self._carrying(module):
            own = [torch.arange(sum(lengths[root])) + starts[root] for root in self._roots(wire.source)]
            inserts.append((self._run(wire.source)[MAIN], torch.cat(own).to(device)))
        segments = Segments.build([n for extents in lengths.values() for n in extents], rows, device)
        return FeatureBatch(rows, segments, tuple(inserts))

    def _carrying(self, target: str) -> list[Wire]:
        """The wires into a module that carry an item."""
        return [wire for wire in self.wires if wire.target == target and self._roots(wire.source)]

    def _roots(self, module: str) -> tuple[str, ...]:
        """The encoders whose items pass through a module, each once, in the order in which they are met."""
        if module in self.items:
            return (module,)
        met: Iterable[str] = (r for w in self.wires if w.target == module for r in self._roots(w.source))
        return tuple(dict.fromkeys(met))
