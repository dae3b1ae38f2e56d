"""Recording of a run: one rank gathers the numbers of all ranks and passes them to the recorders."""

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from counterpoint.config.training import LogConfig
from counterpoint.data.corpus import Corpus
from counterpoint.data.feed.reader import BadPayload, StepInputs
from counterpoint.execute.groups import Groups
from counterpoint.execute.rank_log import OWN
from counterpoint.execute.waits import WaitClock
from counterpoint.losses import MAIN_LOSSES
from counterpoint.parallelize.compile import CACHE_VARIABLE, compilations
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.plan import Plan
from counterpoint.plan.work import model_flops
from counterpoint.recorders.kind import Record, Recorder, Recording
from counterpoint.recorders.metric import METRICS, LoggedStep
from counterpoint.recorders.opened import open_recorders
from counterpoint.simulate.clock import simulate
from counterpoint.train.engine import StepResult
from counterpoint.train.metrics.compiled import Compiled, values_of, words_of
from counterpoint.train.metrics.measures import device_peak_flops, imbalance, peak_bytes
from counterpoint.train.metrics.slow import slow_ranks
from counterpoint.train.metrics.status import status_of
from counterpoint.train.nonfinite import Finding
from counterpoint.train.state.saving import Resumption


class RunRecorder:
    """Records a run; every active rank calls it, and the first one passes records to the recorders."""

    def __init__(self, log: LogConfig, recording: Recording, plan: Plan, groups: Groups, waits: WaitClock) -> None:
        self._plan, self._device, self._waits = plan, groups.world.device, waits
        assert groups.control is not None, "only active ranks record"
        self._control = groups.control
        self._every, self._last = log.every_steps, recording.steps
        self._is_leader = groups.world.rank == plan.placement.active[0]
        self._since, self._tokens, self._steps, self._skipped, self._bad = time.perf_counter(), 0, 0, 0, 0
        self._metrics = {name: METRICS[name] for name in log.metrics}
        self._recorders: tuple[Recorder, ...] = ()
        if self._is_leader:
            self._bubble = simulate(plan).bubble_fraction
            self._trained = frozenset(node.module for node in plan.stages.ranks if plan.stages.trains(node))
            self._recorders = open_recorders(log.recorders, recording, OWN.warning)

    def data(self, step: int, corpus: Corpus) -> None:
        """Record the census of each dataset."""
        for name, census in corpus.censuses() if self._is_leader else ():
            values = {"data": name, "kept": census.kept, "lost": census.lost, **asdict(census)}
            self._record(Record(step=step, values=values, words=f"{name}: {census.words}", of_step=False))

    def step(self, step: int, result: StepResult, inputs: StepInputs) -> None:
        """Record a training step; peak memory and busy time are gathered from all ranks at logged steps."""
        self._tokens += sum(document.tokens for document in inputs.batch.documents)
        self._steps += 1
        self._bad += result.bad
        if step != 1 and step % self._every and step != self._last:
            self._record(Record(step=step))
            return
        gathered = self._gathered()
        # Results are read one step later, or at once before a checkpoint, so the time of reading is not the step's end.
        passed, tokens, steps, skipped = result.ended - self._since, self._tokens, self._steps, self._skipped
        bad, self._since = self._bad, result.ended
        self._tokens, self._steps, self._skipped, self._bad = 0, 0, 0, 0
        if gathered is None:
            return
        memory, busy = gathered
        slow = slow_ranks(busy, {rank: self._plan.nodes_of(rank) for rank in busy}, passed)
        modules = self._modules(result, inputs.batch, passed / steps, memory)
        loss = MAIN_LOSSES[self._plan.loss]
        values = {
            loss.mean: result.loss,
            loss.number: loss.denominator(inputs.batch),
            "tokens_per_second": tokens / passed,
            "step_seconds": passed / steps,
            "gradient_norm": result.norm,
            "bad_payloads": bad,
            **({"skipped_steps": skipped} if skipped else {}),
            **({"compilations": count} if (count := compilations()) else {}),
            **_routing(result),
            **({} if result.mtp_loss is None else {"mtp_loss": result.mtp_loss}),
            **({"losses": result.further} if result.further else {}),
            **({"slow_ranks": {str(rank): ratio for rank, ratio in slow.items()}} if slow else {}),
            "modules": modules,
        }
        asked = self._asked(step, values) if self._metrics else {}
        values |= {"metrics": asked} if asked else {}
        self._record(Record(step=step, values=values, status=status_of(values, loss.mean, self._trained, self._bubble)))

    def leave_out(self, seconds: float) -> None:
        """Do not count time that just passed as that of training steps."""
        self._since += seconds

    def _asked(self, step: int, values: Mapping[str, Any]) -> dict[str, float | None]:
        """The values of the config's metrics for a logged step; a metric that raises is reported once and dropped."""
        loss, modules = MAIN_LOSSES[self._plan.loss], values["modules"]
        logged = LoggedStep(
            step=step, loss=values[loss.mean], loss_tokens=values[loss.number], gradient_norm=values["gradient_norm"],
            step_seconds=values["step_seconds"], tokens_per_second=values["tokens_per_second"],
            learning_rates={name: module["learning_rate"] for name, module in modules.items()},
            gradient_norms={name: module["gradient_norm"] for name, module in modules.items()},
            losses=values.get("losses", {}),
        )  # fmt: skip
        found: dict[str, float | None] = {}
        for name, metric in list(self._metrics.items()):
            try:
                value = float(metric(logged))
            except Exception as error:  # Whatever a metric does, the training goes on.
                del self._metrics[name]
                words = f"the metric {name} raised {type(error).__name__}: {error}; it is left out from here on"
                self._record(Record(step=step, words=words))
            else:
                found[name] = value if math.isfinite(value) else None
        return found

    def compiled(self, step: int, mine: Compiled) -> None:
        """Record what the first step compiled; every rank tells what it did."""
        ranks = self._control.gather(mine)
        values = self._control.broadcast(None if ranks is None else values_of(ranks))
        assert values is not None, "the first rank has them"
        self._record(Record(step=step, values=values, words=words_of(values, os.environ.get(CACHE_VARIABLE, ""))))

    def evaluation(self, step: int, split: str, loss: float, further: Mapping[str, float]) -> None:
        """Record an evaluation loss, and further losses by name."""
        values = {"evaluation": split, "loss": loss, **({"losses": dict(further)} if further else {})}
        self._record(Record(step=step, values=values, words=f"evaluation {split}  loss {loss:.4f}{_further(further)}"))

    def resumed(self, resumption: Resumption) -> None:
        """Record which damaged checkpoints were passed over on resuming, and the note of the one that was loaded."""
        if resumption.step is None:
            return
        for passed in resumption.passed_over:
            words = f"going on from here, since a newer checkpoint is damaged: {passed.why}"
            values = {"passed_over": passed.step, "why": passed.why}
            self._record(Record(step=resumption.step, values=values, words=words))
        if resumption.note is not None:
            self._record(Record(step=resumption.step, words=resumption.note))

    def bad(self, step: int, payloads: Sequence[BadPayload]) -> None:
        """Record payloads that could not be read."""
        for payload in payloads:
            words = f"unreadable, neutral content stands in: source {payload.source}, {payload.reason}"
            values = {"bad_source": payload.source, "bad_index": payload.index, "why": payload.reason}
            self._record(Record(step=step, values=values, words=words))

    def skipped(self, step: int, finding: Finding) -> None:
        """Record a step that was not finite and updated nothing, and the documents that caused it or were in it."""
        self._skipped += 1
        excluded = [[document.source, document.index] for document in finding.excluded]
        why = {"samples": list(finding.names), "why": "not finite"}
        values = {"skipped": list(finding.broken), "excluded": excluded, **why}
        self._record(Record(step=step, values=values, words=finding.said))

    def close(self, is_finished: bool) -> None:
        """Close all recorders; `is_finished` if the last step was trained."""
        for recorder in self._recorders:
            recorder.close(is_finished)

    def _record(self, record: Record) -> None:
        for said in filter(None, (record.words, "  ".join(record.status))):
            OWN.info("step %d: %s", record.step, said)
        for recorder in self._recorders:
            recorder.record(record)

    def _modules(
        self, result: StepResult, batch: BatchPlan, seconds: float, memory: Mapping[int, int]
    ) -> dict[str, Any]:
        flops = model_flops(self._plan, batch)
        uneven = imbalance(self._plan, batch)
        peak = device_peak_flops(self._device)
        active = self._plan.placement.active
        modules: dict[str, Any] = {}
        for module, norm in result.module_norms.items():
            ranks = self._plan.layouts[module].ranks
            rate = flops[module] / seconds
            modules[module] = {
                "learning_rate": result.learning_rates[module],
                "gradient_norm": norm,
                "tflops_per_rank": rate / len(ranks) / 1e12,
                "mfu": rate / (len(ranks) * peak) if peak else None,
                "mfu_all": rate / (len(active) * peak) if peak else None,
                "imbalance": uneven[module],
                "peak_memory_bytes": max(memory[rank] for rank in ranks),
            }
            if module in result.groups:
                modules[module]["groups"] = {name: asdict(group) for name, group in result.groups[module].items()}
        return modules

    def _gathered(self) -> tuple[dict[int, int], dict[int, float]] | None:
        """On the first rank, the peak memory of each active rank, and the seconds that it was busy since the last
        call."""
        gathered = self._control.gather((peak_bytes(self._device), self._waits.take_busy()))
        if gathered is None:
            return None
        told = dict(zip(self._plan.placement.active, gathered, strict=True))
        return {rank: memory for rank, (memory, _busy) in told.items()}, {
            rank: busy for rank, (_memory, busy) in told.items()
        }


def _further(losses: Mapping[str, float]) -> str:
    return "".join(f"  {name} {value:.4g}" for name, value in losses.items())


def _routing(result: StepResult) -> dict[str, Any]:
    """The balance loss and expert loads, empty for models without experts."""
    if result.expert_load is None:
        return {}
    loads = {layer: {"least": least, "most": most} for layer, (least, most) in result.expert_loads.items()}
    return {"balance_loss": result.balance_loss, "expert_load": result.expert_load, "expert_loads": loads}
