"""The reference: the same plain models, trained by a plain loop in one process, a document and an item at a time.

No plan, bridge, FSDP or interpreter, and nothing is packed: each item passes alone through its encoders, its rows go to
the places of its document, and each document has a forward and a backward of its own. So a fault in how rows are packed
with others is on one side only. What both sides read is listed in docs/verify.md.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from counterpoint.config.schema import Config
from counterpoint.errors import RunError
from counterpoint.families import facts_of, family_of, initial_of, intake_of
from counterpoint.families.decoder.spec import DecoderConfig
from counterpoint.families.parts import parts_of
from counterpoint.kinds.arrays import Ints
from counterpoint.kinds.modality import Payload
from counterpoint.layers.moe.router import Choice, Router
from counterpoint.layers.moe.sublayer import Moe
from counterpoint.modalities.alone import lay_alone
from counterpoint.models.batch import Insert, MtpInputs, TextBatch
from counterpoint.models.chain import MAIN, Chain, build_chain
from counterpoint.models.segments import Segments
from counterpoint.optimizers import OPTIMIZERS
from counterpoint.optimizers.kind import OptimizerSection
from counterpoint.parallelize.blocks import whole_block
from counterpoint.parallelize.initialize import initialize_, initialize_buffer_
from counterpoint.parallelize.starting import fill_given_
from counterpoint.plan.samples import NO_LABEL, NO_TOKEN, Document
from counterpoint.setup.run import build_models
from counterpoint.sources.payload import TextPayload
from counterpoint.sources.source import Source
from counterpoint.verify.alone import Journey, Passed
from counterpoint.verify.compare import Observation
from counterpoint.verify.further import ItemMeans, Scored, score_means, scored
from counterpoint.verify.rules import is_trained, rate, rules_for
from counterpoint.verify.whole import begin_with


class Laid(NamedTuple):
    """An item that enters `module`, and what it adds at its `places` in a document once it passed the encoders."""

    module: str
    payload: Payload
    places: Ints
    passed: Passed


@dataclass(frozen=True)
class Update:
    """The optimizers of a module's `parameters` that are in one named group, or in no group."""

    group: str
    section: OptimizerSection
    parameters: tuple[str, ...]
    optimizers: tuple[torch.optim.Optimizer, ...]


@dataclass(frozen=True)
class Denominators:
    """The divisors of a step's losses: loss tokens, those of each further depth, and documents."""

    tokens: int
    further: tuple[int, ...]
    documents: int


@dataclass
class Totals:
    """The sums of a step's losses over its documents: next token, balance, further tokens, and those `beside` the main
    loss by name; `loads` are the numbers of rows of each expert of a mixture."""

    loss: float
    balance: float
    ahead: float
    beside: dict[str, float]
    loads: dict[Moe, Tensor]


@dataclass
class Reference:
    """One plain process; `device` is where it computes, in `dtype` throughout.

    `margin` is the smallest difference of scores so far between the last expert that a row chose and the first that it
    did not choose: below rounding, another order of sums may choose another expert, and neither is wrong.
    """

    config: Config
    sources: Sequence[Source]
    device: torch.device
    dtype: torch.dtype

    def __post_init__(self) -> None:
        self.models = build_models(self.config)
        self.chains = {name: self._build(name) for name in self._forward_order()}
        found = {name: intake_of(name, module.model, mark="") for name, module in self.config.modules.items()}
        self.intakes = {name: intake for name, intake in found.items() if intake is not None}
        self.journey = Journey(self.chains, self.intakes, self.config.edges, self.dtype, self.device)
        self.updates = {name: list(self._updates(name, chain)) for name, chain in self.chains.items()}
        self.steps = 0
        self.margin = math.inf
        for chain in self.chains.values():
            for module in chain.modules():
                if isinstance(module, Router):
                    module.register_forward_hook(self._note_margin)

    def step(self, documents: Sequence[Document]) -> Observation:
        """Train on the documents of one step; only their source, index and items' modules are read."""
        texts = [self.sources[document.source].text(document.index) for document in documents]
        denominators = self._denominators(texts)
        self._compared = ItemMeans(self.config, self.sources, documents, self._rows_of)
        totals = Totals(0.0, 0.0, 0.0, dict.fromkeys(self._beside, 0.0), {})
        for document, text in zip(documents, texts, strict=True):
            self._learn(document, text, denominators, totals)
        named = self.named_parameters()
        trained = {key: parameter for key, parameter in named.items() if parameter.requires_grad}
        gradients = {key: _or_zero(parameter) for key, parameter in trained.items()}
        norm = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients.values()))
        before = {key: tensor.detach().clone() for key, tensor in (named | self._named_buffers()).items()}
        clip = self.config.training.clip_norm
        scale = clip / norm if clip is not None and norm > clip else 1.0
        for key, parameter in trained.items():
            parameter.grad = gradients[key] * scale
        rates = {
            name: rate(module.optimizer, self.steps, self.config.training.steps)
            for name, module in self.config.modules.items()
        }
        own_rates: dict[str, float] = {}
        for name, updates in self.updates.items():
            for update in updates:
                lr = rate(update.section, self.steps, self.config.training.steps)
                if update.group:
                    rates[f"{name}: {update.group}"] = lr
                    own_rates |= {f"{name}.{parameter}": lr for parameter in update.parameters}
                for optimizer in update.optimizers:
                    for group in optimizer.param_groups:
                        group["lr"] = lr
                    optimizer.step()
                    optimizer.zero_grad()
        self._move_expert_bias(totals.loads)
        self.steps += 1
        return Observation(
            loss=totals.loss,
            balance_loss=totals.balance,
            mtp_loss=totals.ahead / max(self._decoder.mtp_depths, 1),
            further=totals.beside,
            norm=norm,
            rates=rates,
            own_rates=own_rates,
            gradients={key: gradient.cpu() for key, gradient in gradients.items()},
            updates={k: (now.detach() - before[k]).cpu() for k, now in (named | self._named_buffers()).items()},
        )

    def named_parameters(self) -> dict[str, torch.nn.Parameter]:
        """All parameters by layout-free key, in the order in which a forward uses them."""
        return {
            f"{module}.{part}.{name}": parameter
            for module, chain in self.chains.items()
            for part, piece in chain.parts()
            for name, parameter in piece.named_parameters()
        }

    def _learn(self, document: Document, text: TextPayload, denominators: Denominators, totals: Totals) -> None:
        """Run forward and backward of one document; adds to gradients and totals."""
        laid = self._lay(document, text)
        batch = self._batch(text, laid, denominators)
        # Balance losses and those of further tokens take part in the backward but not in this value.
        with scored(self.chains[self._sink]) as calls:
            made: Mapping[str, Tensor] = self.chains[self._sink](None, batch)
        loss = made[MAIN]
        whole = loss + self._terms(calls, totals) + self._of_items(document, laid, totals)
        if whole.requires_grad:
            torch.autograd.backward(whole)
        totals.loss += float(loss.detach())
        totals.ahead += sum(made["head.further"].tolist()) if "head.further" in made else 0.0
        for name, layer in self.chains[self._sink].named_modules():
            if isinstance(layer, Moe) and f"{name}.counts" in made:
                totals.balance += float(made[f"{name}.balance"])
                totals.loads[layer] = totals.loads.get(layer, 0) + made[f"{name}.counts"]

    def _terms(self, calls: Sequence[Scored], totals: Totals) -> Tensor:
        """The weighted sum of further terms of scores over all depths; each is reported for the last call only."""
        found = torch.zeros((), dtype=self.dtype, device=self.device)
        depths = len(calls) - 1
        of_depth = 0.0 if self._decoder.mtp is None else self._decoder.mtp.weight / max(depths, 1)
        for kind, weight, (*ahead, last) in score_means(self.config.modules[self._sink].losses, calls):
            name = f"{self._sink}.{kind}"
            totals.beside[name] += float(last.detach())
            found = found + weight * (last + of_depth * sum(ahead))
        return found

    def _of_items(self, document: Document, laid: Sequence[Laid], totals: Totals) -> Tensor:
        """The weighted sum of further losses of the rows of a document's items."""
        found = torch.zeros((), dtype=self.dtype, device=self.device)
        for which, item in enumerate(laid):
            for name, weight, mean in self._compared.of(document, which, item.passed.rows):
                totals.beside[name] += float(mean.detach())
                found = found + weight * mean
        return found

    def _batch(self, text: TextPayload, laid: Sequence[Laid], by: Denominators) -> TextBatch:
        inserts: list[Insert] = []
        deep: dict[int, tuple[Insert, ...]] = {}
        for item in laid:
            index = self._tensor(item.places)
            inserts += [(rows, index) for rows in item.passed.front]
            for layer, features in item.passed.after.items():
                deep[layer] = (*deep.get(layer, ()), *((rows, index) for rows in features))
        positions = self._positions(text, laid)
        return TextBatch(
            ids=self._tensor(text.ids),
            positions=positions,
            labels=self._tensor(text.labels),
            segments=Segments.build((len(text.ids),), len(text.ids), self.device),
            loss_denominator=float(by.tokens),
            inserts=tuple(inserts),
            deep=deep,
            document_denominator=float(by.documents),
            mtp=tuple(
                MtpInputs(self._tensor(ids), self._tensor(labels), float(tokens))
                for depth, tokens in enumerate(by.further, start=1)
                for ids, labels in [_ahead(text, depth)]
            ),
            extents=torch.full((len(positions),), int(positions.max()) + 1, device=self.device),
        )

    def _lay(self, document: Document, text: TextPayload) -> list[Laid]:
        """A document's items, each at the next of its rows without a token, as many as the item became."""
        (free,) = np.nonzero(text.ids == NO_TOKEN)
        laid: list[Laid] = []
        first = expected = 0
        for which, item in enumerate(document.items):
            payload = self.sources[document.source].item(document.index, which)
            passed = self.journey.into(self._sink, item.module, payload)
            rows = len(passed.front[0])
            laid.append(Laid(item.module, payload, free[first : first + rows], passed))
            first += rows
            expected += math.prod(self._grid(item.module, payload))
        if not first == expected == len(free):
            raise RunError(
                f"document {document.index} of source {document.source}: its items became {first} rows, expected "
                f"{expected} by the config and {len(free)}, as many as its text leaves to them; what counts rows and "
                "what makes them differ"
            )
        return laid

    def _positions(self, text: TextPayload, laid: Sequence[Laid]) -> Tensor:
        """Positions row by row, as in the paper (arXiv:2409.12191), or counted from 0."""
        if self._decoder.rope_sections is None:
            return torch.arange(len(text.ids), device=self.device)
        items = {int(item.places[0]): item for item in laid}
        places: list[tuple[int, int, int]] = []
        free = 0
        while len(places) < len(text.ids):
            item = items.get(len(places))
            cells = [(0, 0, 0)] if item is None else self._cells(item)
            places += [(free + time, free + y, free + x) for time, y, x in cells]
            free += 1 + max(max(cell) for cell in cells)
        return self._tensor(np.array(places))

    def _cells(self, item: Laid) -> list[tuple[int, int, int]]:
        """Time, height and width of the rows that an item became, from its first."""
        match self._grid(item.module, item.payload):
            case (height, width):
                return [(0, y, x) for y in range(height) for x in range(width)]
            case (times,):
                return [(row, row, row) for row in range(times)]
        raise AssertionError("an item has a height and a width, or times")

    def _rows_of(self, document: Document, which: int) -> int:
        """The number of rows that leave its modules for an item, by the config."""
        payload = self.sources[document.source].item(document.index, which)
        return math.prod(self._grid(document.items[which].module, payload))

    def _grid(self, module: str, payload: Payload) -> tuple[int, ...]:
        """An item's extent by the config: height and width of an image in rows, or the length in time of others."""
        return lay_alone(payload, self.intakes[module], self.dtype).grid

    def _note_margin(self, router: Router, inputs: tuple[Tensor], _choice: Choice) -> None:
        scores = router.scores(inputs[0].detach())
        ranked = (scores if router.bias is None else scores + router.bias).sort(dim=1, descending=True).values
        last = router.top_k
        if len(ranked) and last < ranked.shape[1]:
            margins = (ranked[:, last - 1] - ranked[:, last]).detach()
            self.margin = min(self.margin, float(margins.min()))

    def _move_expert_bias(self, loads: Mapping[Moe, Tensor]) -> None:
        """Raise the bias of experts that saw fewer rows than their layer's mean, and lower that of the others."""
        for layer, counts in loads.items():
            is_trained = layer.router.weight.requires_grad
            if is_trained and layer.router.bias is not None and layer.bias_rate is not None:
                rows = counts.tolist()
                for expert, load in enumerate(rows):
                    side = (load * len(rows) < sum(rows)) - (load * len(rows) > sum(rows))
                    layer.router.bias[expert] += side * layer.bias_rate

    def _named_buffers(self) -> dict[str, Tensor]:
        return {f"{m}.{name}": b for m, chain in self.chains.items() for name, b in chain.named_buffers()}

    @property
    def _sink(self) -> str:
        sources = {edge.source for edge in self.config.edges}
        return next(name for name in self.config.modules if name not in sources)

    def _forward_order(self) -> list[str]:
        """Modules, each after those whose rows it reads."""
        order: list[str] = []
        while len(order) < len(self.config.modules):
            reads = {name: {e.source for e in self.config.edges if e.target == name} for name in self.config.modules}
            order += [name for name, sources in reads.items() if name not in order and sources <= set(order)]
        return order

    @property
    def _beside(self) -> list[str]:
        """The names of all losses beside the main one."""
        return [f"{name}.{loss.kind}" for name, module in self.config.modules.items() for loss in module.losses]

    @property
    def _decoder(self) -> DecoderConfig:
        section: DecoderConfig = self.models[self._sink].section
        return section

    def _denominators(self, texts: Sequence[TextPayload]) -> Denominators:
        depths = range(1, 1 + self._decoder.mtp_depths)
        further = tuple(sum(int((_ahead(text, depth)[1] >= 0).sum()) for text in texts) for depth in depths)
        return Denominators(sum(int((text.labels >= 0).sum()) for text in texts), further, len(texts))

    def _build(self, module: str) -> Chain:
        model = self.models[module]
        with torch.device("meta"):
            chain = build_chain(parts_of(model)).to(self.dtype)
        chain.to_empty(device=self.device)
        given = family_of(model.section).given(model.section)
        for name, parameter in chain.named_parameters():
            block = whole_block(name, tuple(parameter.shape))
            parameter.requires_grad_(is_trained(self.config.modules[module].train, name))
            sums, initial = facts_of(model).residual_sums, initial_of(model.section)
            initialize_(parameter.detach(), block, self.config.run.seed, module, sums, initial)
            fill_given_(parameter.detach(), block, given)
        for name, buffer in chain.named_buffers():
            initialize_buffer_(buffer, name)
        begin_with(self.config, module, model, chain)
        return chain

    def _updates(self, module: str, chain: Chain) -> Iterator[Update]:
        """The optimizers of a module, one for each of its groups that has parameters."""
        section = self.config.modules[module].optimizer
        trained = {name: parameter for name, parameter in chain.named_parameters() if parameter.requires_grad}
        rules = {name: rules_for(section, name) for name in trained}
        for group, holds in dict(rules.values()).items():
            some = {name: parameter for name, parameter in trained.items() if rules[name][0] == group}
            yield Update(group, holds, tuple(some), OPTIMIZERS[section.kind].build_plain(holds, some))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)


def _or_zero(parameter: torch.nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.detach().clone()


def _ahead(text: TextPayload, depth: int) -> tuple[Ints, Ints]:
    """Row by row, the token `depth` rows ahead in the document and the label of that row."""
    ids, labels = np.full_like(text.ids, NO_TOKEN), np.full_like(text.labels, NO_LABEL)
    ids[:-depth], labels[:-depth] = text.ids[depth:], text.labels[depth:]
    return ids, labels
