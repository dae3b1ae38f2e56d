"""How a setting steps: ours through the engine, the baseline through its own trainer."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, final

import torch
import torch.distributed as dist

from counterpoint.config.schema import Config
from counterpoint.data.feed.prefetch import Prefetcher
from counterpoint.data.feed.reader import Reader, StepInputs
from counterpoint.data.feed.workers import Workers
from counterpoint.execute.groups import GroupCache, World
from counterpoint.parallelize.fsdp import dtype_of
from counterpoint.setup.data import intakes_of

from .engine_run import EngineRun, allocated, resident
from .settings import PATCH, Cut, Setting, Workload, counts_of
from .source import DrawnSource
from .stick import MAX_IMAGES, SAMPLES, TINY, VLM, Trainer, W, collate, device, sample, use_attention_backend

STEPS_FED = 1_000_000
"""More steps than are ever fed."""


class Named(Protocol):
    """What every kind of setting has."""

    @property
    def name(self) -> str:
        """As it was written."""


class Run(Protocol):
    """One setting in this process; all ranks call the same methods in the same order."""

    samples: int

    @property
    def setting(self) -> Named:
        """The setting that it runs."""

    @property
    def held(self) -> int:
        """Bytes that stay allocated between steps, inputs not counted."""

    def prepare(self, numbers: range) -> None:
        """Bring the inputs of these steps to the device, if they are not there."""

    def build(self) -> None:
        """Make the model and take a first step."""

    def step(self, number: int) -> None:
        """Take a step; the host does not wait for it."""

    def context(self) -> AbstractContextManager[None]:
        """What of the process's state its steps are run under."""

    def losses(self) -> tuple[float, float]:
        """The first and the last loss, of which the ranks' mean is taken; asked for behind each of its blocks."""

    def facts(self) -> dict[str, Any]:
        """What it is, for the record."""

    def close(self) -> None:
        """Free what it holds."""


@final
class Ours(EngineRun):
    """A setting of ours. Inputs lie on the device before any step, or come through the prefetcher if they are `fed`."""

    def __init__(
        self,
        setting: Setting,
        workload: Workload,
        config: Config,
        cut: Cut,
        world: World,
        cache: GroupCache,
        draws: Sequence[Sequence[int]],
        fed: bool,
    ) -> None:
        super().__init__(config, world, cache)
        self.setting, self.cut, self._fed = setting, cut, fed
        self.samples = cut.samples
        check_parameters(sum(facts.parameters for facts in self.plan.facts.values()), workload)
        counts = counts_of(setting, workload, draws, self.samples)
        self._source = DrawnSource(intakes_of(self.config), counts, workload.side)
        compute = dtype_of(self.config.training.precision.compute)
        self._reader = Reader(self.plan, world.rank, (self._source,), compute, is_pinned=not TINY)
        self._inputs = [] if fed else [resident(self._read(step)) for step in range(len(counts))]
        self._feed: Prefetcher | None = None

    def prepare(self, numbers: range) -> None:
        """See Run: they are there from the start, or come through the prefetcher."""

    def inputs(self, number: int) -> StepInputs:
        """See EngineRun."""
        if not self._fed:
            return self._inputs[number % len(self._inputs)]
        if self._feed is None:
            data, workers = self.config.data, Workers(self.config.data.workers, "feed")
            self._feed = Prefetcher(
                lambda step: workers.submit(self._read, step).future, 0, STEPS_FED, data.prefetch_steps, workers.close
            )
        return self._feed.next()

    def facts(self) -> dict[str, Any]:
        """See Run."""
        return {**super().facts(), "micro_batches": self.cut.microbatches, "fed": self._fed}

    def close(self) -> None:
        """See Run."""
        if self._feed is not None:
            self._feed.close()
        super().close()
        self._feed, self._inputs = None, []

    def _read(self, step: int) -> StepInputs:
        return self._reader.read(self.plan.batch(step, self._source.packs(step, self.cut)))


def check_parameters(ours: int, workload: Workload) -> None:
    """Ours has the baseline's parameters and the patch embedding, or the comparison is off."""
    with torch.device("meta"):
        theirs = sum(parameter.numel() for parameter in VLM(workload.merge).parameters())
    embedding = (3 * PATCH**2 + 1) * W.vis_dim
    if ours != theirs + embedding:
        raise ValueError(
            f"parameters: got {ours} in ours, expected {theirs} of the baseline and {embedding} of patches"
        )


class Fsdp2Model:
    """The baseline's trainer, which all of its settings share."""

    def __init__(self, workload: Workload, attention: str, eager: bool) -> None:
        self.workload, self.attention, self.eager = workload, attention, eager
        self.trainer: Trainer | None = None
        self.held = 0

    def open(self) -> Trainer:
        """The trainer, made by the first who asks."""
        if self.trainer is None:
            self.trainer = Trainer(self.workload.merge, not self.eager, dynamic_vision=self.workload.kind == "varied")
        return self.trainer

    @contextmanager
    def flags(self) -> Iterator[None]:
        """The attention backend and the compiler's flags that its script sets for the process."""
        with (
            attention_backend(self.attention),
            torch._dynamo.config.patch(automatic_dynamic_shapes=False, recompile_limit=16),
        ):
            yield


@contextmanager
def attention_backend(name: str) -> Iterator[None]:
    """Restrict torch's attention to one backend, as the baseline's scripts do for the whole process."""
    cuda = torch.backends.cuda
    enabled = {
        cuda.enable_flash_sdp: cuda.flash_sdp_enabled(),
        cuda.enable_cudnn_sdp: cuda.cudnn_sdp_enabled(),
        cuda.enable_mem_efficient_sdp: cuda.mem_efficient_sdp_enabled(),
        cuda.enable_math_sdp: cuda.math_sdp_enabled(),
    }
    use_attention_backend(name)
    try:
        yield
    finally:
        for enable, was in enabled.items():
            enable(was)


class Fsdp2:
    """A setting of the baseline, with batches made as its script makes them."""

    def __init__(self, setting: Setting, model: Fsdp2Model, world: World, draws: Sequence[Sequence[int]]) -> None:
        self.setting, self.samples, self._model = setting, SAMPLES, model
        self._keep = setting.option("reshard", "false") != "true"
        self._text = model.workload.text_tokens(SAMPLES)
        self._made: dict[int, list[dict[str, torch.Tensor]]] = {}
        make = self._main if model.workload.kind == "main" else self._varied
        self._batches = make(world, draws)
        self._losses: list[float] = []

    @property
    def held(self) -> int:
        """See Run."""
        return self._model.held

    def build(self) -> None:
        """See Run; compiles for every shape that comes, as the script does."""
        before, is_new = allocated(), self._model.trainer is None
        trainer = self._model.open()
        with self.context():
            if is_new and self._model.workload.kind == "varied":
                for images in (4, 6, 1, 0, 2, 8):
                    trainer.step([self._made[images][0]] * 2, self._text, True)
            self.step(0)
        if is_new:
            trainer.losses.clear()
            self._model.held = allocated() - before

    def prepare(self, numbers: range) -> None:
        """See Run."""

    def step(self, number: int) -> None:
        """See Run."""
        trainer = self._model.open()
        trainer.step(self._batches[number % len(self._batches)], self._text, self._keep)

    def context(self) -> AbstractContextManager[None]:
        """See Run."""
        return self._model.flags()

    def losses(self) -> tuple[float, float]:
        """See Run; the trainer's own list is that of all settings since it was last emptied."""
        trainer = self._model.open()
        self._losses += [float(loss) for loss in trainer.losses]
        trainer.losses.clear()
        return self._losses[0], self._losses[-1]

    def facts(self) -> dict[str, Any]:
        """See Run."""
        return {
            "attention": self._model.attention,
            "compiled": not self._model.eager,
            "keep_unsharded": self._keep,
            "micro_batches": len(self._batches[0]),
            "parameters": self._model.open().parameters,
        }

    def close(self) -> None:
        """See Run."""
        self._model.trainer, self._batches, self._made = None, [], {}

    def _main(self, world: World, _draws: Sequence[Sequence[int]]) -> list[list[dict[str, torch.Tensor]]]:
        """As `run_main`."""
        rank, micro, each = world.rank, self.setting.micro_batch, SAMPLES // dist.get_world_size()
        gen = torch.Generator(device=device()).manual_seed(7 + rank)
        pool = [
            sample(
                1, 1, W.image_tokens,
                torch.randn(1, W.image_tokens, W.vis_dim, device=device(), generator=gen).to(torch.bfloat16),
                1000 * rank + i,
            )
            for i in range(each)
        ]  # fmt: skip
        return [[collate(pool[i : i + micro]) for i in range(0, each, micro)]]

    def _varied(self, world: World, draws: Sequence[Sequence[int]]) -> list[list[dict[str, torch.Tensor]]]:
        """As `run_varied`, one sample at once."""
        workload, rank, each = self._model.workload, world.rank, SAMPLES // dist.get_world_size()
        gen = torch.Generator(device=device()).manual_seed(7 + rank)
        pool = torch.randn(MAX_IMAGES, workload.patches, W.vis_dim, device=device(), generator=gen).to(torch.bfloat16)
        self._made = {
            n: [collate([sample(n, workload.merge, workload.rows, pool, 100 * rank + 10 * n + j)]) for j in range(2)]
            for n in range(MAX_IMAGES + 1)
        }
        counts = counts_of(self.setting, workload, draws, SAMPLES)
        return [[self._made[n][i % 2] for i, n in enumerate(c[rank * each : (rank + 1) * each])] for c in counts]
