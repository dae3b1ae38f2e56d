"""One item passed alone through the encoders: the rows that it becomes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from counterpoint.config.schema import EdgeConfig
from counterpoint.kinds.modality import Intake, Payload
from counterpoint.modalities.alone import lay_alone
from counterpoint.models.batch import FeatureBatch, Insert
from counterpoint.models.chain import MAIN, Chain, port_of
from counterpoint.models.segments import Segments


class Passed(NamedTuple):
    """What an item adds to its rows of the sink, in `front` of all layers and `after` some, and the `rows` that leave
    each module for it."""

    front: list[Tensor]
    after: dict[int, list[Tensor]]
    rows: dict[str, Tensor]


@dataclass(frozen=True)
class Journey:
    """Passes one item through a graph of encoders; rows that several modules read are computed once."""

    chains: Mapping[str, Chain]
    intakes: Mapping[str, Intake]
    edges: tuple[EdgeConfig, ...]
    dtype: torch.dtype
    device: torch.device

    def into(self, sink: str, module: str, payload: Payload) -> Passed:
        """What an item that enters `module` becomes on its way to the sink."""
        made = {module: self._entering(module, payload)}
        front: list[Tensor] = []
        deep: dict[int, list[Tensor]] = {}
        for edge in self.edges:
            if edge.target == sink and self._reaches(edge.source, made):
                front.append(made[edge.source][MAIN])
                for depth in edge.depths:
                    deep.setdefault(depth.into, []).append(made[edge.source][port_of(depth.after)])
        return Passed(front, deep, {name: ports[MAIN] for name, ports in made.items()})

    def _reaches(self, module: str, made: dict[str, Mapping[str, Tensor]]) -> bool:
        """Whether the item passes through a module; if so its rows there are computed into `made`."""
        if module not in made:
            sources = [e.source for e in self.edges if e.target == module and self._reaches(e.source, made)]
            if sources:
                features = [made[source][MAIN] for source in sources]
                rows = torch.arange(len(features[0]), device=self.device)
                inserts: tuple[Insert, ...] = tuple((one, rows) for one in features)
                alone = Segments.build((len(rows),), len(rows), self.device)
                made[module] = self.chains[module](None, FeatureBatch(len(rows), alone, inserts))
        return module in made

    def _entering(self, module: str, payload: Payload) -> Mapping[str, Tensor]:
        alone = lay_alone(payload, self.intakes[module], self.dtype)
        outputs: Mapping[str, Tensor] = self.chains[module](None, alone.batch.to(self.device))
        return {port: rows[alone.lead :] for port, rows in outputs.items()}
