"""How a setting steps: ours through the engine, the baseline through its own trainer."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import wraps
from typing import Any, Protocol
from unittest.mock import patch

import torch
import torch.distributed as dist

from counterpoint.config.schema import Config
from counterpoint.data.feed.prefetch import Prefetcher
from counterpoint.data.feed.reader import Reader, StepInputs
from counterpoint.execute.groups import GroupCache, World, make_groups
from counterpoint.execute.stage import Stage
from counterpoint.parallelize.fsdp import dtype_of
from counterpoint.plan.action import Action, Step
from counterpoint.plan.batch import BatchPlan
from counterpoint.setup.data import intakes_of
from counterpoint.setup.rank import settings_of
from counterpoint.setup.run import prepare_run
from counterpoint.train.engine import Engine, LaunchedStep
from counterpoint.train.replica import Replica

from .settings import PATCH, Cut, Setting, Workload, counts_of
from .source import DrawnSource
from .stick import MAX_IMAGES, SAMPLES, TINY, VLM, Trainer, W, collate, device, sample, use_attention_backend

STEPS_FED = 1_000_000
"""More steps than are ever fed."""


class Run(Protocol):
    """One setting in this process; all ranks call the same methods in the same order."""

    setting: Setting
    samples: int

    @property
    def held(self) -> int:
        """Bytes that stay allocated between steps, inputs not counted."""

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


def allocated() -> int:
    """Bytes that tensors of this process take on the GPU."""
    return 0 if TINY else torch.cuda.memory_allocated()


class Ours:
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
        self.setting, self.config, self.cut, self._fed = setting, config, cut, fed
        self.samples, self.held = cut.samples, 0
        self.plan, self._models, _corpus = prepare_run(self.config)
        check_parameters(sum(facts.parameters for facts in self.plan.facts.values()), workload)
        self._groups = make_groups(world, self.plan.communicators, self.plan.placement.active, cache)
        counts = counts_of(setting, workload, draws, self.samples)
        self._source = DrawnSource(intakes_of(self.config), counts, workload.side)
        compute = dtype_of(self.config.training.precision.compute)
        self._reader = Reader(self.plan, world.rank, (self._source,), compute, is_pinned=not TINY)
        self._inputs = [] if fed else [self._resident(self._read(step)) for step in range(len(counts))]
        self._feed: Prefetcher | None = None
        self._engine: Engine | None = None
        self._rank = world.rank
        self._batch: BatchPlan | None = None
        self._launched: LaunchedStep | None = None
        self._losses: list[float] = []
        self._inside, self._began, self._ended = 0.0, 0.0, 0.0

    def build(self) -> None:
        """See Run."""
        before = allocated()
        self._engine = Engine(settings_of(self.config), self.plan, self._models, self._groups, (self._note,))
        if self._fed:
            self._feed = Prefetcher(self._read, 0, STEPS_FED, self.config.data.workers)
        self.step(0)
        self.held = allocated() - before

    def step(self, number: int) -> None:
        """See Run."""
        inputs = self._feed.next() if self._feed is not None else self._inputs[number % len(self._inputs)]
        assert self._engine is not None, "build comes first"
        self._batch, self._began = inputs.batch, time.perf_counter()
        launched = self._engine.launch_step(inputs)
        # As in training: a step is read while the next one is under way.
        self._read_launched()
        self._launched = launched

    def context(self) -> AbstractContextManager[None]:
        """See Run."""
        return nullcontext()

    def losses(self) -> tuple[float, float]:
        """See Run; all ranks know the loss, so their mean is it."""
        self._read_launched()
        return self._losses[0], self._losses[-1]

    def facts(self) -> dict[str, Any]:
        """See Run."""
        return {"config": self.config.resolved(), "micro_batches": self.cut.microbatches, "fed": self._fed}

    def bridge_bytes(self) -> dict[str, int]:
        """What this rank sends over links in a step, beside what the step's plan says; takes a step."""
        assert self._engine is not None, "build comes first"
        before = self._engine.sent_bytes
        self.step(0)
        assert self._batch is not None, "a step has a batch"
        return {"sent": self._engine.sent_bytes - before, "planned": self._planned_bytes(self._batch)}

    def host_seconds(self, steps: int, settle: Callable[[], None]) -> list[float]:
        """The host's own seconds of each step: less what stages, reductions and the step action take.

        What is left are the interpreter, the bridge and the way in; `settle` waits for the device between steps.
        """
        inside = [(Stage, "forward"), (Stage, "backward"), (Stage, "weight_gradients"), (Replica, "reduce")]
        seconds = []
        with ExitStack() as stack:
            for owner, name in inside:
                stack.enter_context(patch.object(owner, name, self._clocked(getattr(owner, name))))
            for number in range(steps):
                settle()
                self._inside = 0.0
                self.step(number)
                seconds.append(self._ended - self._began - self._inside)
        return seconds

    def close(self) -> None:
        """See Run."""
        if self._feed is not None:
            self._feed.close()
        if self._engine is not None:
            self._engine.close()
        self._feed, self._engine, self._inputs = None, None, []

    def _clocked(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self._inside += time.perf_counter() - start

        return call

    def _note(self, action: Action) -> None:
        """The step action, the last of all, is not the interpreter's own either."""
        if isinstance(action, Step):
            self._ended = time.perf_counter()

    def _read_launched(self) -> None:
        if self._launched is not None:
            self._losses.append(self._launched.result().loss)
        self._launched = None

    def _read(self, step: int) -> StepInputs:
        return self._reader.read(self.plan.batch(step, self._source.packs(step, self.cut)))

    def _resident(self, inputs: StepInputs) -> StepInputs:
        where = device()
        return replace(
            inputs,
            batches={key: batch.to(where) for key, batch in inputs.batches.items()},
            maps={key: rows.to(where) for key, rows in inputs.maps.items()},
        )

    def _planned_bytes(self, batch: BatchPlan) -> int:
        """What this rank sends by the plan: rows to other ranks forward, and the gradients of others' rows backward."""
        size = torch.empty(0, dtype=dtype_of(self.plan.dtype)).element_size()
        total = 0
        for link in self.plan.stages.links:
            for exchange in range(self.plan.stages.exchanges(link, self.plan.microbatches)):
                for copy in self.plan.route(batch, link, exchange).copies:
                    if copy.source_rank != copy.target_rank and self._rank in (copy.source_rank, copy.target_rank):
                        total += copy.rows * self.plan.width(link) * size
        return total


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
        cuda = torch.backends.cuda
        enabled = {
            cuda.enable_flash_sdp: cuda.flash_sdp_enabled(),
            cuda.enable_cudnn_sdp: cuda.cudnn_sdp_enabled(),
            cuda.enable_mem_efficient_sdp: cuda.mem_efficient_sdp_enabled(),
            cuda.enable_math_sdp: cuda.math_sdp_enabled(),
        }
        use_attention_backend(self.attention)
        try:
            with torch._dynamo.config.patch(automatic_dynamic_shapes=False, recompile_limit=16):
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
