"""One item alone: what its encoder reads of it, and the rows that it becomes on its way through the encoders."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from counterpoint.config.schema import EdgeConfig
from counterpoint.data.payload import ClipPayload, FeaturePayload, PatchPayload, Payload
from counterpoint.models.batch import NO_PREFIX, AudioBatch, Batch, FeatureBatch, GivenBatch, Insert, PatchBatch
from counterpoint.models.chain import MAIN, Chain
from counterpoint.models.encoder import port_of
from counterpoint.models.segments import Segments, Windows
from counterpoint.plan.sizes import CustomSizes, ModelSizes, VitSizes


@dataclass(frozen=True)
class Journey:
    """Takes one item through a graph of encoders; rows that several modules read are computed once."""

    chains: Mapping[str, Chain]
    sizes: Mapping[str, ModelSizes]
    edges: tuple[EdgeConfig, ...]
    dtype: torch.dtype
    device: torch.device

    def into(self, sink: str, module: str, payload: Payload) -> tuple[list[Tensor], dict[int, list[Tensor]]]:
        """What an item that enters `module` adds to its rows of the sink: in front of all layers, and behind some."""
        made = {module: self._entering(module, payload)}
        front: list[Tensor] = []
        deep: dict[int, list[Tensor]] = {}
        for edge in self.edges:
            if edge.target == sink and self._reaches(edge.source, made):
                front.append(made[edge.source][MAIN])
                for depth in edge.depths:
                    deep.setdefault(depth.into, []).append(made[edge.source][port_of(depth.after)])
        return front, deep

    def _reaches(self, module: str, made: dict[str, Mapping[str, Tensor]]) -> bool:
        """Whether the item passes through a module; if so its rows there are made."""
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
        sizes = self.sizes[module]
        batch, lead = _batch(payload, sizes, self.dtype)
        outputs: Mapping[str, Tensor] = self.chains[module](None, batch.to(self.device))
        return {port: rows[lead:] for port, rows in outputs.items()}


def _batch(payload: Payload, sizes: ModelSizes, dtype: torch.dtype) -> tuple[Batch, int]:
    """One item as a batch, and how many of the rows that leave stand before its own."""
    match payload:
        case PatchPayload():
            assert isinstance(sizes, VitSizes | CustomSizes), "images enter an encoder of images"
            return _image(payload, sizes, dtype)
        case ClipPayload():
            rows = len(payload.frames)
            frames, filled = torch.tensor(payload.frames, dtype=dtype), torch.tensor(payload.filled)
            return AudioBatch(frames, filled, torch.arange(rows), Segments.build((rows,), rows)), 0
        case FeaturePayload():
            rows = len(payload.values)
            return GivenBatch(torch.tensor(payload.values, dtype=dtype), Segments.build((rows,), rows)), 0


def _image(payload: PatchPayload, sizes: VitSizes | CustomSizes, dtype: torch.dtype) -> tuple[PatchBatch, int]:
    """An image behind the learned rows of its encoder, which fill whole merge groups from the back."""
    (height, width), merge = payload.grid, sizes.merge
    cells = [
        (top + y, left + x)
        for top in range(0, height, merge)
        for left in range(0, width, merge)
        for y in range(merge)
        for x in range(merge)
    ]
    lead = 0
    while lead < sizes.prefix:
        lead += merge * merge
    rows = lead + len(cells)
    places = torch.tensor([(0, 0)] * lead + cells)
    patches = torch.zeros((rows, sizes.patch_dim), dtype=dtype)
    patches[lead:] = torch.from_numpy(np.asarray(payload.patches))
    prefix = [NO_PREFIX] * (lead - sizes.prefix) + list(range(sizes.prefix)) + [NO_PREFIX] * len(cells)
    groups: dict[tuple[int, int], list[int]] = {}
    for row, (y, x) in enumerate(cells if sizes.window else ()):
        groups.setdefault((y // sizes.window, x // sizes.window), []).append(lead + row)
    return PatchBatch(
        patches=patches,
        coordinates=places,
        grids=torch.tensor([(1, 1)] * lead + [(height, width)] * len(cells)),
        prefix=torch.tensor(prefix),
        places=places,
        segments=Segments.build((rows - lead + sizes.prefix,), rows, starts=(lead - sizes.prefix,)),
        windows=Windows.build([torch.tensor(group) for group in groups.values()]),
        images=((lead, height, width),),
    ), lead // merge**2
