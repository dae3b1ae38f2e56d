"""A trained model in one plain process: whole parts, no parallelism, loaded from a run's checkpoint."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from counterpoint.data.payload import PatchPayload
from counterpoint.data.positions import lay_positions
from counterpoint.models.batch import PatchBatch, TextBatch
from counterpoint.models.catalog import model_parts
from counterpoint.models.chain import Chain, build_chain
from counterpoint.models.head import VocabularyHead
from counterpoint.models.segments import Segments
from counterpoint.parallelize.blocks import whole_block
from counterpoint.plan.plan import Plan
from counterpoint.plan.samples import Document, Item
from counterpoint.plan.sizes import DecoderSizes
from counterpoint.train.checkpoint import StoredBlock, read_tensors


@dataclass(frozen=True, slots=True)
class Prompt:
    """What generation starts from: ids int64 (rows,) with -1 at the rows of `items`, which lie in their order."""

    ids: np.ndarray
    items: tuple[tuple[str, int, PatchPayload], ...]
    """(module, first row, payload) of every image."""


Features = list[tuple[Item, Tensor]]
"""Where each image of a prompt lies, and its features (rows, hidden)."""


@dataclass(frozen=True)
class PlainModel:
    """All modules of a plan on one device, in evaluation."""

    chains: dict[str, Chain]
    sink: str
    position_axes: int
    device: torch.device

    @classmethod
    def load(cls, plan: Plan, folder: Path, device: torch.device) -> "PlainModel":
        """Build the modules of a plan and fill them from a checkpoint; raises CheckpointError."""
        chains, tensors = {}, {}
        for module in plan.graph.modules:
            with torch.device("meta"):
                chain = build_chain(model_parts(plan.sizes[module]))
            chain.to_empty(device=device)
            for name, tensor in (*chain.named_parameters(), *chain.named_buffers()):
                block = whole_block(name, tuple(tensor.shape))
                tensors[f"model/{module}.{name}"] = StoredBlock(block, tensor.detach())
            chains[module] = chain.requires_grad_(False).eval()
        read_tensors(folder, tensors, group=None, prefix="model/")
        sizes = plan.sizes[plan.sink]
        assert isinstance(sizes, DecoderSizes), "documents enter a decoder"
        return cls(chains, plan.sink, sizes.position_axes, device)

    def encode(self, prompts: Sequence[Prompt]) -> list[Features]:
        """Per prompt, the features of every image."""
        features: list[Features] = [[] for _ in prompts]
        for module, chain in self.chains.items():
            wanted = [(i, row, p) for i, prompt in enumerate(prompts) for m, row, p in prompt.items if m == module]
            if not wanted:
                continue
            lengths = tuple(len(payload.patches) for _i, _row, payload in wanted)
            batch = PatchBatch(
                patches=self._tensor(np.concatenate([p.patches for _i, _row, p in wanted])),
                coordinates=self._tensor(np.concatenate([p.coordinates for _i, _row, p in wanted])),
                grids=self._tensor(np.repeat(np.array([p.grid for _i, _row, p in wanted]), lengths, axis=0)),
                segments=Segments.build(lengths, sum(lengths), self.device),
            )
            rows = chain(None, batch)
            merge = len(batch.patches) // len(rows)
            for (i, row, payload), piece in zip(wanted, rows.split([n // merge for n in lengths]), strict=True):
                columns = payload.grid[1] // math.isqrt(merge)
                features[i].append((Item(module, row, len(payload.patches), len(piece), columns), piece))
        return features

    def next_logits(self, ids: Sequence[np.ndarray], features: Sequence[Features]) -> Tensor:
        """Scores (prompts, vocab) of the token behind each prompt."""
        lengths = tuple(len(one) for one in ids)
        starts = np.cumsum([0, *lengths])
        inserts = [
            (piece, torch.arange(len(piece), device=self.device) + int(starts[i]) + item.position)
            for i, images in enumerate(features)
            for item, piece in images
        ]
        documents = [
            Document(0, i, n, 0, tuple(item for item, _piece in images))
            for i, (n, images) in enumerate(zip(lengths, features, strict=True))
        ]
        positions = np.concatenate([lay_positions(document, self.position_axes) for document in documents])
        batch = TextBatch(
            ids=self._tensor(np.concatenate(ids)),
            positions=self._tensor(positions if self.position_axes > 1 else positions[:, 0]),
            labels=torch.empty(0, dtype=torch.int64),
            segments=Segments.build(lengths, sum(lengths), self.device),
            loss_denominator=0.0,
            inserts=tuple(inserts),
        )
        *parts, (_name, head) = self.chains[self.sink].parts()
        assert isinstance(head, VocabularyHead), "a decoder ends in its head"
        rows = None
        for _name, part in parts:
            rows = part(rows, batch)
        assert rows is not None, "the embedding makes rows"
        last = torch.as_tensor(starts[1:] - 1, device=self.device)
        return head.logits(rows.index_select(0, last))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


@torch.no_grad()
def greedy(model: PlainModel, prompts: Sequence[Prompt], end: int, most_tokens: int) -> list[list[int]]:
    """The likeliest continuation token by token, until `end` or `most_tokens`; ties go to the lower id."""
    features = model.encode(prompts)
    ids = [prompt.ids for prompt in prompts]
    written: list[list[int]] = [[] for _ in prompts]
    open_prompts = list(range(len(prompts)))
    for _ in range(most_tokens):
        if not open_prompts:
            break
        logits = model.next_logits([ids[i] for i in open_prompts], [features[i] for i in open_prompts])
        for i, token in zip(list(open_prompts), logits.argmax(dim=1).tolist(), strict=True):
            if token == end:
                open_prompts.remove(i)
                continue
            written[i].append(token)
            ids[i] = np.append(ids[i], token)
    return written
