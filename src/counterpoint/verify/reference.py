"""The reference (design D14): the same plain models trained by a plain loop in one process.

No plan, no bridge, no FSDP, no interpreter: items are encoded in the order of their documents, every batch is one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor

from counterpoint.config.schema import Config
from counterpoint.data.item_rows import pack_items
from counterpoint.data.payload import Payload, TextPayload
from counterpoint.data.source import Source
from counterpoint.models.batch import NO_LABEL, NO_TOKEN, MtpInputs, TextBatch
from counterpoint.models.catalog import model_parts
from counterpoint.models.chain import MAIN, Chain, build_chain
from counterpoint.models.moe import Moe
from counterpoint.models.router import Choice, Router
from counterpoint.models.segments import Segments
from counterpoint.models.towers import Items, Towers, Wire
from counterpoint.parallelize.blocks import whole_block
from counterpoint.parallelize.initialize import initial_values, initialize_, initialize_buffer_
from counterpoint.parallelize.starting import starting_weights
from counterpoint.plan.build import sizes_of
from counterpoint.plan.model_facts import facts_of
from counterpoint.plan.samples import Document
from counterpoint.plan.sizes import DecoderSizes, ItemSizes
from counterpoint.setup import vocabulary
from counterpoint.train.optimizer import is_exempt, learning_rate
from counterpoint.verify.compare import Observation
from counterpoint.verify.whole import begin_with


@dataclass
class Reference:
    """One plain process; `device` is where it computes, in `dtype` throughout.

    `margin` is the smallest difference so far between the last expert that a row chose and the first that it did not:
    below rounding, another order of sums may choose another one, and neither is wrong (design D13).
    """

    config: Config
    sources: Sequence[Source]
    device: torch.device
    dtype: torch.dtype

    def __post_init__(self) -> None:
        words = vocabulary(self.config)
        self.sizes = {name: sizes_of(self.config, name, words) for name in self.config.modules}
        self.chains = {name: self._build(name) for name in self.config.modules}
        self.optimizers = {
            name: self._optimizer(name, chain)
            for name, chain in self.chains.items()
            if any(parameter.requires_grad for parameter in chain.parameters())
        }
        self.steps = 0
        self.margin = math.inf
        for chain in self.chains.values():
            for module in chain.modules():
                if isinstance(module, Router):
                    module.register_forward_hook(self._note_margin)

    def step(self, documents: Sequence[Document]) -> Observation:
        """Train on one batch; returns what D13 compares."""
        batch = self._text(documents)
        # Balance losses and those of further tokens join the backward and are no part of this value.
        loss: Tensor = self.chains[self._sink](None, batch)[MAIN]
        if loss.requires_grad:
            torch.autograd.backward(loss)
        named = self.named_parameters()
        trained = {key: parameter for key, parameter in named.items() if parameter.requires_grad}
        gradients = {key: _or_zero(parameter) for key, parameter in trained.items()}
        norm = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients.values()))
        before = {key: tensor.detach().clone() for key, tensor in (named | self._named_buffers()).items()}
        clip = self.config.training.clip_norm
        scale = clip / norm if clip is not None and norm > clip else 1.0
        for key, parameter in trained.items():
            parameter.grad = gradients[key] * scale
        for name, optimizer in self.optimizers.items():
            rate = learning_rate(self.config.modules[name].optimizer, self.steps, self.config.training.steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        self._move_expert_bias(batch)
        self.steps += 1
        updates = {
            key: (tensor.detach() - before[key]).cpu() for key, tensor in (named | self._named_buffers()).items()
        }
        balance = sum(float(routing.balance) for routing in batch.routed.values())
        further = [float(term) for term in batch.mtp_losses.values()]
        return Observation(
            loss=float(loss.detach()),
            balance_loss=balance,
            mtp_loss=sum(further) / max(len(further), 1),
            norm=norm,
            gradients={key: gradient.cpu() for key, gradient in gradients.items()},
            updates=updates,
        )

    def _note_margin(self, router: Router, inputs: tuple[Tensor], _choice: Choice) -> None:
        scores = router.scores(inputs[0].detach())
        ranked = (scores if router.bias is None else scores + router.bias).sort(dim=1, descending=True).values
        last = router.sizes.top_k
        if len(ranked) and last < ranked.shape[1]:
            margins = (ranked[:, last - 1] - ranked[:, last]).detach()
            self.margin = min(self.margin, float(margins.min()))

    def _move_expert_bias(self, batch: TextBatch) -> None:
        """Experts that saw fewer rows than the mean of their layer become a little likelier, the others less so."""
        for layer, routing in batch.routed.items():
            assert isinstance(layer, Moe), "only mixtures route"
            is_trained = layer.router.weight.requires_grad
            if is_trained and layer.router.bias is not None and layer.sizes.bias_rate is not None:
                loads = routing.counts.tolist()
                for expert, load in enumerate(loads):
                    side = (load * len(loads) < sum(loads)) - (load * len(loads) > sum(loads))
                    layer.router.bias[expert] += side * layer.sizes.bias_rate

    def _named_buffers(self) -> dict[str, Tensor]:
        return {f"{m}.{name}": b for m, chain in self.chains.items() for name, b in chain.named_buffers()}

    def _text(self, documents: Sequence[Document]) -> TextBatch:
        inserts, deep = Towers(self.chains, self._wires, self._items(documents)).into(self._sink)
        texts = [self.sources[d.source].text(d.index) for d in documents]
        lengths = tuple(len(text.ids) for text in texts)
        return TextBatch(
            ids=self._tensor(np.concatenate([text.ids for text in texts])),
            positions=self._positions(documents),
            labels=self._tensor(np.concatenate([text.labels for text in texts])),
            segments=Segments.build(lengths, sum(lengths), self.device),
            loss_denominator=float(sum(int((text.labels >= 0).sum()) for text in texts)),
            inserts=inserts,
            deep=deep,
            document_denominator=float(len(documents)),
            mtp=tuple(self._further(texts, depth) for depth in range(1, 1 + self._decoder.mtp_depths)),
        )

    def _further(self, texts: Sequence[TextPayload], depth: int) -> MtpInputs:
        """Row by row, the token `depth` rows ahead in the same document and the label of that row."""
        ids: list[int] = []
        labels: list[int] = []
        for text in texts:
            for row in range(len(text.ids)):
                is_inside = row + depth < len(text.ids)
                ids.append(int(text.ids[row + depth]) if is_inside else NO_TOKEN)
                labels.append(int(text.labels[row + depth]) if is_inside else NO_LABEL)
        count = sum(label >= 0 for label in labels)
        return MtpInputs(self._tensor(np.array(ids)), self._tensor(np.array(labels)), float(count))

    def _positions(self, documents: Sequence[Document]) -> Tensor:
        """Positions row by row, as the paper tells them (arXiv:2409.12191), or counted from 0 in each document."""
        if self._decoder.rope_sections is None:
            return self._tensor(np.concatenate([np.arange(document.tokens) for document in documents]))
        places: list[tuple[int, int, int]] = []
        for document in documents:
            items = {item.position: item for item in document.items}
            row = free = 0
            while row < document.tokens:
                item = items.get(row)
                if item is None:
                    cells = [(free, free, free)]
                elif item.columns is None:
                    cells = [(free + n, free + n, free + n) for n in range(item.rows)]
                else:
                    height = range(item.rows // item.columns)
                    cells = [(free, free + y, free + x) for y in height for x in range(item.columns)]
                places += cells
                free = max(max(cell) for cell in cells) + 1
                row += len(cells)
        return self._tensor(np.array(places, dtype=np.int64))

    def named_parameters(self) -> dict[str, torch.nn.Parameter]:
        """All parameters by layout-free key."""
        return {f"{m}.{name}": p for m, chain in self.chains.items() for name, p in chain.named_parameters()}

    @property
    def _sink(self) -> str:
        sources = {edge.source for edge in self.config.edges}
        return next(name for name in self.config.modules if name not in sources)

    @property
    def _decoder(self) -> DecoderSizes:
        sizes = self.sizes[self._sink]
        assert isinstance(sizes, DecoderSizes), "documents enter a decoder"
        return sizes

    @property
    def _wires(self) -> tuple[Wire, ...]:
        edges = self.config.edges
        return tuple(Wire(e.source, e.target, tuple((d.after, d.into) for d in e.depths)) for e in edges)

    def _items(self, documents: Sequence[Document]) -> dict[str, Items]:
        """The items of each encoder that has one, and the rows of the batch where they belong."""
        found: dict[str, list[tuple[Payload, np.ndarray]]] = {}
        start = 0
        for document in documents:
            for which, item in enumerate(document.items):
                payload = self.sources[document.source].item(document.index, which)
                places = np.arange(item.rows) + start + item.position
                found.setdefault(item.module, []).append((payload, places))
            start += document.tokens
        return {module: self._packed(module, items) for module, items in found.items()}

    def _packed(self, module: str, items: Sequence[tuple[Payload, np.ndarray]]) -> Items:
        sizes = self.sizes[module]
        assert isinstance(sizes, ItemSizes), "items enter an encoder that takes some"
        batch, kept = pack_items([payload for payload, _places in items], sizes, self.dtype)
        places = self._tensor(np.concatenate([places for _payload, places in items]))
        lengths = tuple(len(places) for _payload, places in items)
        return Items(batch.to(self.device), kept.to(self.device), lengths, places)

    def _build(self, module: str) -> Chain:
        sizes = self.sizes[module]
        with torch.device("meta"):
            chain = build_chain(model_parts(sizes)).to(self.dtype)
        chain.to_empty(device=self.device)
        given = starting_weights(sizes)
        for name, parameter in chain.named_parameters():
            block = whole_block(name, tuple(parameter.shape))
            parameter.requires_grad_(self._is_trained(module, name))
            sums, rules = facts_of(sizes).residual_sums, initial_values(sizes)
            initialize_(parameter.detach(), block, self.config.run.seed, module, sums, rules)
            given.fill_(parameter.detach(), block)
        for name, buffer in chain.named_buffers():
            initialize_buffer_(buffer, name)
        begin_with(self.config, module, sizes, chain)
        return chain

    def _is_trained(self, module: str, name: str) -> bool:
        train = self.config.modules[module].train
        return train == "all" or (train != "none" and any(fnmatchcase(name, pattern) for pattern in train))

    def _optimizer(self, module: str, chain: Chain) -> torch.optim.AdamW:
        config = self.config.modules[module].optimizer
        groups = [
            {"params": [p], "weight_decay": 0.0 if is_exempt(config, name, p.dim()) else config.weight_decay}
            for name, p in chain.named_parameters()
            if p.requires_grad
        ]
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, foreach=False)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)


def _or_zero(parameter: torch.nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.detach().clone()
