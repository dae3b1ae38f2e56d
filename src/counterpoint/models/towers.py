"""The encoders of a graph in one process: from the items of a batch to the features that the decoder adds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from counterpoint.models.batch import Batch, FeatureBatch, Insert
from counterpoint.models.chain import MAIN, Chain, port_of
from counterpoint.models.segments import Segments


class Wire(NamedTuple):
    """Output rows of `source` enter `target`; for each (after, into) in `depths`, the rows after layer `after` of the
    source are added after layer `into` of the target."""

    source: str
    target: str
    depths: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Items:
    """The items that one encoder reads, as its `batch`.

    `kept` int64 (rows,) are its output rows without padding, `lengths` the number of these per item, and `places` int64
    (rows,) the rows of the decoder that they are added to.
    """

    batch: Batch
    kept: Tensor
    lengths: tuple[int, ...]
    places: Tensor


@dataclass
class Towers:
    """Encoders and the wires between them; `items` are by root, an encoder that reads items and that no wire enters.

    An adapter runs once, on the rows of all its roots, concatenated root by root.
    """

    chains: Mapping[str, Chain]
    wires: tuple[Wire, ...]
    items: Mapping[str, Items]
    _outputs: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)

    def into(self, sink: str) -> tuple[tuple[Insert, ...], dict[int, tuple[Insert, ...]]]:
        """The features that the decoder `sink` adds: in its embedding, and after some of its layers."""
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
        """The input of an adapter: features of the items of all its roots, root by root."""
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
        """The roots whose items pass through a module, each once, in the order of traversal."""
        if module in self.items:
            return (module,)
        met: Iterable[str] = (r for w in self.wires if w.target == module for r in self._roots(w.source))
        return tuple(dict.fromkeys(met))
