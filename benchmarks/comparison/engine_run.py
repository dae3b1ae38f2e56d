"""Ours, stepped through the engine: what every benchmark of whole steps shares."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from functools import wraps
from typing import Any
from unittest.mock import patch

import torch

from counterpoint.config.schema import Config
from counterpoint.data.feed.reader import StepInputs
from counterpoint.execute.groups import GroupCache, World, make_groups
from counterpoint.execute.stage import Stage
from counterpoint.parallelize.fsdp import dtype_of
from counterpoint.plan.action import Action, Step
from counterpoint.plan.batch import BatchPlan
from counterpoint.setup.rank import settings_of
from counterpoint.setup.run import prepare_run
from counterpoint.train.engine import Engine, LaunchedStep
from counterpoint.train.replica import Replica

from .stick import TINY, device


def allocated() -> int:
    """Bytes that tensors of this process take on the GPU."""
    return 0 if TINY else torch.cuda.memory_allocated()


def resident(inputs: StepInputs) -> StepInputs:
    """Inputs of a step on this process's device."""
    where = device()
    return replace(
        inputs,
        batches={key: batch.to(where) for key, batch in inputs.batches.items()},
        maps={key: rows.to(where) for key, rows in inputs.maps.items()},
    )


class EngineRun(ABC):
    """A setting of ours in this process; subclasses say what its steps read."""

    def __init__(self, config: Config, world: World, cache: GroupCache) -> None:
        self.config, self.held = config, 0
        self.plan, self._models, _corpus = prepare_run(config)
        self._groups = make_groups(world, self.plan.communicators, self.plan.placement.active, cache)
        self._engine: Engine | None = None
        self._rank = world.rank
        self._batch: BatchPlan | None = None
        self._launched: LaunchedStep | None = None
        self._losses: list[float] = []
        self._inside, self._began, self._ended = 0.0, 0.0, 0.0

    @abstractmethod
    def inputs(self, number: int) -> StepInputs:
        """The inputs of a step, on the device."""

    @abstractmethod
    def prepare(self, numbers: range) -> None:
        """See Run."""

    def build(self) -> None:
        """See Run."""
        before = allocated()
        self._engine = Engine(settings_of(self.config), self.plan, self._models, self._groups, (self._note,))
        self.adjust(self._engine)
        self.step(0)
        self.held = allocated() - before

    def adjust(self, engine: Engine) -> None:  # noqa: B027
        """Change what no key of a config does, before the first step; by default nothing."""

    def step(self, number: int) -> None:
        """See Run."""
        inputs = self.inputs(number)
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
        return {"config": self.config.resolved()}

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
        if self._engine is not None:
            self._engine.close()
        self._engine, self._launched = None, None

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
