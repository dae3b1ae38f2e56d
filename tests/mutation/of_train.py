# ruff: noqa: E501 (a table reads best with a fault to a line)
"""Faults of the step, its optimizer, and what is kept of a run."""

from tests.mutation.mutant import Mutant

_T, _C, _D = "tests/unit/train/", "tests/unit/cli/", "tests/distributed/"
_PAIRS = ("tests/parity/test_named_layouts.py",)
_RUNS = (f"{_D}test_pool_tasks.py", f"{_D}test_hybrid_state.py", f"{_D}test_runs.py")

TRAIN = [
    Mutant("train.optimizer:learning_rate", "(step + 1) / schedule.warmup_steps", "step / schedule.warmup_steps", (f"{_T}test_optimizer.py",)),
    Mutant("train.optimizer:learning_rate", "schedule.minimum + (1.0 - schedule.minimum) * left", "max(schedule.minimum, left)", (f"{_T}test_optimizer.py",)),
    Mutant("train.optimizer:learning_rate", "end - schedule.warmup_steps", "end", (f"{_T}test_optimizer.py",)),
    Mutant("train.optimizer:is_exempt", "dims < 2", "dims < 3", (f"{_T}test_optimizer.py",)),
    Mutant("train.optimizer:ModuleOptimizer.__init__", "betas=config.betas, ", "", (f"{_T}test_optimizer.py",)),
    Mutant("train.optimizer:ModuleOptimizer.set_step", "float(step)", "0.0", (f"{_T}test_optimizer.py",)),
    Mutant("train.optimizer:ModuleOptimizer._update", 'group["lr"] = lr', 'group["lr"] = self._config.lr', (f"{_T}test_optimizer.py",)),
    Mutant("train.optimizer:ModuleOptimizer._update", "clipping.is_broken.float()", "torch.zeros(())", (f"{_T}test_optimizer.py",)),
    Mutant("train.engine:Engine._clipping", "clip / norm.clamp(min=clip)", "clip / norm", (f"{_T}",), (*_PAIRS, "tests/parity/test_unreached_encoder.py")),
    Mutant("train.engine:Engine._clipping", "sums[_SCALARS:]", "sums[_SCALARS + 1 :]", (f"{_T}",), _PAIRS),
    Mutant("train.engine:Engine._local_mtp_loss", "/ self._mtp_depths", "/ len(noted)", (f"{_T}",), ("tests/parity/test_further_tokens.py",)),
    Mutant("train.engine:Engine.evaluate_step", "dist.all_reduce(total, group=self._groups.collective(self.plan.placement.active))", "pass", (f"{_T}",), _RUNS),
    Mutant("train.engine:Engine._has_gradients", " and node.module in self._reached", "", (f"{_T}",), _PAIRS),
    Mutant("train.engine:Engine._step", "self.optimizer_step += 1", "self.optimizer_step = 1", (f"{_T}",), _RUNS),
    Mutant("train.routing:RoutedStep.move_bias", " and moe.router.weight.requires_grad", "", (f"{_T}",), (f"{_D}test_frozen.py", f"{_D}test_hybrid_state.py", *_PAIRS)),
    Mutant("train.routing:RoutedStep._local", "counts += batch.routed[moe].counts", "counts = batch.routed[moe].counts", (f"{_T}",), _PAIRS),
    Mutant("train.routing:RoutedStep.counts", "dist.all_reduce(total, group=group)", "pass", (f"{_T}",), _PAIRS),
    Mutant("train.replica:Replica.square_sum", "/ replicas", "", (f"{_T}",), _PAIRS),
    Mutant("train.replica:Replica.tie", "self.tie_group is not None and ", "False and ", (f"{_T}",), _PAIRS),
    Mutant("train.replica:Replica.finish_reduction", 'p.block.reduction == "partial" and ', 'p.block.reduction != "shard" and ', (f"{_T}",), _PAIRS),
    Mutant("train.replica:build_replica", "counts_loss=is_loss and coordinate.tp == 0", "counts_loss=is_loss", (f"{_T}",), _PAIRS),
    Mutant("train.replica:_freeze", "is_trained(_known(name, sizes), train)", "is_trained(name, train)", (f"{_T}",), (f"{_D}test_frozen.py", *_PAIRS)),
    Mutant("train.loop:Trainer._evaluate", "total + loss * batch.loss_tokens, tokens + batch.loss_tokens", "total + loss, tokens + 1", (f"{_T}test_evaluation.py",)),
    Mutant("train.loop:Trainer._evaluate", "with_mtp=False", "with_mtp=True", (f"{_T}test_evaluation.py", _T), ("tests/parity/test_further_tokens.py", f"{_D}test_runs.py")),
    Mutant("train.loop:Trainer._exclude", "+ STEPS_AHEAD + 1", "", (_T,), _RUNS),
    Mutant("train.loop:Trainer.run", "self._corpus = self._corpus.without(Exclusion(*entry) for entry in state.exclusions)", "pass", (_T,), _RUNS),
    Mutant("train.loop:_due", "step % every == 0", "step % every == 1", (_T,), (f"{_D}test_runs.py",)),
    Mutant("train.loop:Trainer._steps", "or done == steps or self._stopped", "or self._stopped", (_T,), (f"{_D}test_runs.py",)),
    Mutant("train.saving:Saver.save", "tuple((e.source, e.index, e.from_step) for e in exclusions)", "()", (_T,), _RUNS),
    Mutant("train.saving:Saver.resume", "engine.optimizer_step = state.optimizer_step", "pass", (_T,), _RUNS),
    Mutant("train.saving:Saver.resume", "optimizer.set_step(state.optimizer_step)", "pass", (_T,), _RUNS),
    Mutant("train.checkpoint:CheckpointWriter.write", "{key: block.staged() for key, block in tensors.items()}", "dict(tensors)", (_T,), _RUNS),
    Mutant("train.checkpoint:CheckpointWriter._write", "written[: -self._keep_last]", "written[: -self._keep_last - 1]", (_T,), _RUNS),
    Mutant("train.checkpoint:_BlockLoadPlanner.create_local_plan", "[block.chunk]", "[block.chunk][:1] * bool(block.chunk.offsets[0] == 0)", (_T,), _RUNS),
    Mutant("train.resume:state_to_resume", '"run.seed": config.run.seed, ', '"run.seed": state.seed, ', (f"{_C}test_refused_resume.py",)),
    Mutant("train.warm:warm_start", " and one.block.name not in fresh", "", (_T, f"{_C}test_warm_start.py"), (f"{_D}test_warm_start.py",)),
    Mutant("train.warm:_checkpoint", "steps[-1]", "steps[0]", (f"{_C}test_warm_start.py",), (f"{_D}test_warm_start.py",)),
    Mutant("train.metrics:imbalance", "sum(max(lanes) for lanes in costs)", "max(max(lanes) for lanes in costs)", (_T, "tests/unit/report")),
    Mutant("train.metrics:RunRecorder.step", "\"step_seconds\": passed / steps", "\"step_seconds\": passed", (_T, "tests/unit/report"), (f"{_D}test_runs.py",)),
]  # fmt: skip
