"""A trained model in one plain process: whole parts, no parallelism, loaded from a run's checkpoint."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from counterpoint.argument import argument
from counterpoint.data.feed.positions import lay_positions
from counterpoint.families.parts import parts_of
from counterpoint.inference.sampling import GREEDY, Sampling
from counterpoint.kinds.family import Model
from counterpoint.kinds.modality import Intakes, Payload
from counterpoint.modalities.rows import pack_items
from counterpoint.models.batch import Insert, TextBatch
from counterpoint.models.chain import Chain, build_chain
from counterpoint.models.head import VocabularyHead
from counterpoint.models.seams import run
from counterpoint.models.segments import Segments
from counterpoint.models.towers import Items, Towers, Wire
from counterpoint.parallelize.blocks import whole_block
from counterpoint.plan.plan import Plan
from counterpoint.plan.samples import Document, Item
from counterpoint.train.state.checkpoint import open_checkpoint, read_tensors
from counterpoint.train.state.stored_block import StoredBlock


@dataclass(frozen=True, slots=True)
class Prompt:
    """What generation starts from: ids int64 (rows,) with -1 at the rows of `items`, which are in the same order."""

    ids: np.ndarray
    items: tuple[tuple[Item, Payload], ...] = ()


@dataclass(frozen=True, slots=True)
class Features:
    """The items of a prompt, and what encoders add to the prompt's rows for them: before all layers, and `deep` after
    some."""

    items: tuple[Item, ...]
    inserts: tuple[Insert, ...]
    deep: dict[int, tuple[Insert, ...]]


class Scorer(Protocol):
    """A model that writes: it scores the next token of each prompt, with the features of the prompt's items."""

    def encode(self, prompts: Sequence[Prompt]) -> list[Features]:
        """Per prompt, its items and their features."""

    def next_logits(self, ids: Sequence[np.ndarray], features: Sequence[Features]) -> Tensor:
        """Scores (prompts, vocab) of the next token of each prompt; `ids` are int64 (rows,)."""


@dataclass(frozen=True)
class PlainModel:
    """All modules of a plan on one device, in evaluation mode; `intakes` are those of modules that read items."""

    chains: dict[str, Chain]
    wires: tuple[Wire, ...]
    intakes: Intakes
    sink: str
    position_axes: int
    device: torch.device

    @classmethod
    def load(
        cls, plan: Plan, models: Mapping[str, Model], intakes: Intakes, folder: Path, device: torch.device
    ) -> "PlainModel":
        """Build the modules of a plan and fill them from a checkpoint; raises CheckpointError."""
        chains, tensors = {}, {}
        for module in plan.graph.modules:
            with torch.device("meta"):
                chain = build_chain(parts_of(models[module]))
            chain.to_empty(device=device)
            for name, tensor in (*chain.named_parameters(), *chain.named_buffers()):
                block = whole_block(name, tuple(tensor.shape))
                tensors[f"model/{module}.{name}"] = StoredBlock(block, tensor.detach())
            chains[module] = chain.requires_grad_(False).eval()
        remedy = f"take another step with {argument('step')}, or remove its folder and train on from an older one"
        read_tensors(open_checkpoint(folder, remedy), tensors, tree=None, prefix="model/")
        wires = tuple(Wire(edge.source, edge.target, edge.depths) for edge in plan.graph.edges)
        return cls(chains, wires, intakes, plan.sink, plan.facts[plan.sink].position_axes, device)

    def encode(self, prompts: Sequence[Prompt]) -> list[Features]:
        """Per prompt, its items and their features."""
        starts = [0, *accumulate(len(prompt.ids) for prompt in prompts)]
        placed = [
            (start, item, payload)
            for start, prompt in zip(starts, prompts, strict=False)
            for item, payload in prompt.items
        ]
        modules = dict.fromkeys(item.module for _start, item, _payload in placed)
        batches = {
            module: self._packed(module, [one for one in placed if one[1].module == module]) for module in modules
        }
        inserts, deep = Towers(self.chains, self.wires, batches).into(self.sink)
        return [
            Features(
                tuple(item for item, _payload in prompt.items),
                _between(inserts, start, stop),
                {layer: _between(joined, start, stop) for layer, joined in deep.items()},
            )
            for prompt, (start, stop) in zip(prompts, pairwise(starts), strict=True)
        ]

    def next_logits(self, ids: Sequence[np.ndarray], features: Sequence[Features]) -> Tensor:
        """Scores (prompts, vocab) of the next token of each prompt."""
        lengths = tuple(len(one) for one in ids)
        starts = np.cumsum([0, *lengths])
        layers = {layer for one in features for layer in one.deep}
        deep = {layer: _shifted([one.deep.get(layer, ()) for one in features], starts) for layer in layers}
        documents = [Document(0, i, n, 0, one.items) for i, (n, one) in enumerate(zip(lengths, features, strict=True))]
        laid = [lay_positions(document, self.position_axes) for document in documents]
        positions = np.concatenate(laid)
        batch = TextBatch(
            ids=self._tensor(np.concatenate(ids)),
            positions=self._tensor(positions if self.position_axes > 1 else positions[:, 0]),
            labels=torch.empty(0, dtype=torch.int64),
            segments=Segments.build(lengths, sum(lengths), self.device),
            loss_denominator=0.0,
            inserts=_shifted([one.inserts for one in features], starts),
            deep=deep,
            extents=self._tensor(np.concatenate([np.full(len(one), one.max(initial=-1) + 1) for one in laid])),
        )
        *parts, (_name, head) = self.chains[self.sink].parts()
        assert isinstance(head, VocabularyHead), "a decoder ends in its head"
        rows = None
        for _name, part in parts:
            rows = run(part, rows, batch).rows
        assert rows is not None, "the embedding makes rows"
        last = torch.as_tensor(starts[1:] - 1, device=self.device)
        return head.logits(rows.index_select(0, last))

    def _packed(self, module: str, placed: Sequence[tuple[int, Item, Payload]]) -> Items:
        """One encoder's items, packed; `placed` gives the first batch row of each item's prompt."""
        items = [(item, payload) for _start, item, payload in placed]
        batch, kept = pack_items(self.intakes[module], items, torch.float32)
        places = np.concatenate([np.arange(item.rows) + start + item.position for start, item, _payload in placed])
        lengths = tuple(item.rows for _start, item, _payload in placed)
        return Items(batch.to(self.device), kept.to(self.device), lengths, self._tensor(places))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def _between(inserts: tuple[Insert, ...], start: int, stop: int) -> tuple[Insert, ...]:
    """The inserts at the rows from `start` to `stop`, with rows counted from `start`."""
    return tuple(
        (features[inside], index[inside] - start)
        for features, index in inserts
        for inside in [(index >= start) & (index < stop)]
    )


def _shifted(inserts: Sequence[tuple[Insert, ...]], starts: np.ndarray) -> tuple[Insert, ...]:
    """The inserts of prompts in a batch in which the prompts begin at the rows `starts`."""
    return tuple(
        (features, index + int(start))
        for start, joined in zip(starts, inserts, strict=False)
        for features, index in joined
    )


@torch.no_grad()
def write(
    model: Scorer,
    prompts: Sequence[Prompt],
    ends: Collection[int],
    most_tokens: Sequence[int],
    sampling: Sampling = GREEDY,
    keys: Sequence[Sequence[int]] | None = None,
) -> list[list[int]]:
    """The ids that the model writes after each prompt, until one of `ends` or its `most_tokens`; `keys` seed draws."""
    features = model.encode(prompts)
    ids = [prompt.ids for prompt in prompts]
    generators = [sampling.generator(key) for key in keys or [(number,) for number in range(len(prompts))]]
    written: list[list[int]] = [[] for _ in prompts]
    unfinished = [i for i, most in enumerate(most_tokens) if most > 0]
    while unfinished:
        logits = model.next_logits([ids[i] for i in unfinished], [features[i] for i in unfinished])
        chosen = sampling.choose(logits, [generators[i] for i in unfinished])
        for i, token in zip(list(unfinished), chosen, strict=True):
            if token not in ends:
                written[i].append(token)
                ids[i] = np.append(ids[i], token)
            if token in ends or len(written[i]) == most_tokens[i]:
                unfinished.remove(i)
    return written
