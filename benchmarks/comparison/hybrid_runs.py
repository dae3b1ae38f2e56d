"""How a setting of the hybrid's benchmark steps: ours through the engine, the peer through its own trainer."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
import torch.distributed as dist

from counterpoint.config.schema import Config
from counterpoint.data.feed.reader import Reader, StepInputs
from counterpoint.execute.groups import GroupCache, World
from counterpoint.layers.moe.router import Router
from counterpoint.parallelize.fsdp import dtype_of
from counterpoint.plan.plan import Plan
from counterpoint.plan.work import model_flops
from counterpoint.setup.data import intakes_of
from counterpoint.setup.run import build_plan
from counterpoint.sources.synthetic.source import SyntheticSource
from counterpoint.train.engine import Engine
from counterpoint.train.metrics.measures import imbalance

from .engine_run import EngineRun, allocated, resident
from .hybrid_settings import SEQUENCE, HybridCut, HybridSetting, counted_config, peer_sizes
from .hybrid_stream import ImageStream, TokenStream
from .runs import attention_backend
from .stick import FLOPS_CHUNK, TINY, HybridModel, HybridTrainer, Kernels, Sizes, device, draw_batch


def parameters_of(config: Config) -> int:
    """Parameters of all models of a config of ours."""
    return sum(facts.parameters for facts in build_plan(config).facts.values())


def parameters_of_peer(sizes: Sizes) -> int:
    """Parameters of the peer's model."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in HybridModel(sizes, Kernels(compile=False)).parameters())


def stream_of(config: Config, setting: HybridSetting, cut: HybridCut, seed: int) -> TokenStream | ImageStream:
    """What a setting of ours reads: the recipe's documents if it has images, else sequences of tokens."""
    model: Any = config.modules["language"].model
    vocab: int = model.vocab
    if "vision" not in config.modules:
        return TokenStream(cut, SEQUENCE, vocab, seed, is_packed=setting.has("packed"))
    recipe: Any = config.data.train[0]
    source = SyntheticSource(recipe.synthetic, 0, intakes_of(config), SEQUENCE, vocab)
    return ImageStream(source, cut, SEQUENCE, vocab)


class HybridOurs(EngineRun):
    """A setting of ours. Each step reads documents of its own, which lie on the device before a block is timed."""

    def __init__(
        self, setting: HybridSetting, config: Config, cut: HybridCut, world: World, cache: GroupCache, seed: int
    ) -> None:
        super().__init__(config, world, cache)
        self.setting, self.cut, self.samples = setting, cut, cut.total
        self.parameters = sum(facts.parameters for facts in self.plan.facts.values())
        self._stream = stream_of(config, setting, cut, seed)
        self._counted: Plan = build_plan(counted_config(config, FLOPS_CHUNK))
        compute = dtype_of(config.training.precision.compute)
        packs = setting.has("packed") or "vision" in config.modules
        self._reader = Reader(self.plan, world.rank, (self._stream,), compute, is_pinned=not TINY, packs=packs)
        self._ready: dict[int, StepInputs] = {}
        self._work: dict[int, dict[str, float]] = {}

    def adjust(self, engine: Engine) -> None:
        """See EngineRun."""
        for replica in engine.replicas.values():
            for module in replica.chain.modules():
                if isinstance(module, Router):
                    module.is_even = self.setting.has("balanced")

    def prepare(self, numbers: range) -> None:
        """See Run; they stay until others are prepared, so that all steps of a block have the same beside them."""
        self._ready.clear()
        self._ready |= {number: self._read(number) for number in numbers}

    def inputs(self, number: int) -> StepInputs:
        """See EngineRun."""
        inputs = self._ready.get(number)
        return self._read(number) if inputs is None else inputs

    def work(self, numbers: list[int]) -> list[dict[str, float]]:
        """What each of these steps computes: FLOPs by module, imbalance of lanes, the largest image's share of the mean
        vision lane, and tokens of text."""
        return [self._work_of(number) for number in numbers]

    def facts(self) -> dict[str, Any]:
        """See Run."""
        return {**super().facts(), "parameters": self.parameters, "sequences": self.cut.sequences}

    def close(self) -> None:
        """See Run."""
        super().close()
        self._ready = {}

    def _read(self, number: int) -> StepInputs:
        return resident(self._reader.read(self.plan.batch(number, self._stream.packs(number))))

    def _work_of(self, number: int) -> dict[str, float]:
        if number not in self._work:
            batch = self._counted.batch(number, self._stream.packs(number))
            flops, uneven = model_flops(self._counted, batch), imbalance(self._counted, batch)
            found = {f"flops_{module}": value for module, value in flops.items()}
            found |= {f"imbalance_{module}": value for module, value in uneven.items()}
            found["flops"] = sum(flops.values())
            images = [item for document in batch.documents for item in document.items]
            found["text_tokens"] = sum(d.tokens for d in batch.documents) - sum(item.rows for item in images)
            if images:
                cost = self._counted.facts["vision"].cost
                costs = [cost.of(item.rows_in) for item in images]
                found["largest_image_over_mean_lane"] = max(costs) * self._counted.layouts["vision"].dp / sum(costs)
                found["images"], found["largest_image_patches"] = len(images), max(i.rows_in for i in images)
            self._work[number] = found
        return self._work[number]


@final
class HybridPeer:
    """A setting of the peer, on the same tokens."""

    def __init__(
        self, setting: HybridSetting, config: Config, cut: HybridCut, world: World, groups: dict[Any, Any], seed: int
    ) -> None:
        self.setting, self.cut, self.samples, self.held = setting, cut, cut.total, 0
        self.sizes: Sizes = peer_sizes(setting, config)
        self._section: Any = config.modules["language"].optimizer
        self._own = range(world.rank * cut.sequences, (world.rank + 1) * cut.sequences)
        self._groups, self._seed, self._clip = groups, seed, config.training.clip_norm
        self._attention = setting.option("attention", "cudnn")
        self._trainer: HybridTrainer | None = None
        self._ready: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._losses: list[float] = []
        self.parameters = parameters_of_peer(self.sizes)

    def prepare(self, numbers: range) -> None:
        """See Run; they stay until others are prepared, so that all steps of a block have the same beside them."""
        self._ready.clear()
        self._ready |= {number: self._read(number) for number in numbers}

    def build(self) -> None:
        """See Run."""
        before = allocated()
        ep = self.setting.number("ep", dist.get_world_size())
        with self.context():
            self._trainer = HybridTrainer(
                self.sizes, ep=ep, compile=not TINY and not self.setting.has("eager"),
                reshard=self.setting.has("reshard"), forced=self.setting.has("balanced"), lr=self._section.lr,
                betas=self._section.betas, weight_decay=self._section.weight_decay,
                clip=math.inf if self._clip is None else self._clip,
                groups=self._groups,
            )  # fmt: skip
            assert self._trainer.parameters == self.parameters, "all experts are counted"
            self.step(0)
        self.held = allocated() - before

    def step(self, number: int) -> None:
        """See Run."""
        batch = self._ready.get(number)
        ids, labels = self._read(number) if batch is None else batch
        self._open().step(ids, labels, self.samples * (SEQUENCE - 1), self.samples)

    @contextmanager
    def context(self) -> Iterator[None]:
        """See Run."""
        with attention_backend(self._attention):
            yield

    def losses(self) -> tuple[float, float]:
        """See Run."""
        trainer = self._open()
        self._losses += [float(loss) for loss in trainer.losses]
        trainer.losses.clear()
        return self._losses[0], self._losses[-1]

    def work(self, numbers: list[int]) -> list[dict[str, float]]:
        """See HybridOurs: every step is alike."""
        tokens = self.samples * SEQUENCE
        flops = self.sizes.flops_per_token(SEQUENCE) * tokens
        return [{"flops": flops, "flops_language": flops, "text_tokens": tokens} for _ in numbers]

    def facts(self) -> dict[str, Any]:
        """See Run."""
        return {"parameters": self.parameters, "sequences": self.cut.sequences, "attention": self._attention}

    def close(self) -> None:
        """See Run."""
        self._trainer, self._ready = None, {}

    def _open(self) -> HybridTrainer:
        assert self._trainer is not None, "build comes first"
        return self._trainer

    def _read(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        ids, labels = draw_batch(self._seed, number, self._own, SEQUENCE, self.sizes.vocab)
        return ids.to(device()), labels.to(device())
