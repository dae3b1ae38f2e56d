# ruff: noqa: E501 (a table reads best with a fault to a line)
"""Faults of the step, its optimizer, and what is kept of a run."""

from tests.mutation import cases
from tests.mutation.mutant import Mutant

_T, _C = "tests/unit/train/", "tests/unit/cli/"
_SAVED = (
    f"{_T}state/test_crashes_while_saving.py",
    f"{_T}state/test_damaged_checkpoints.py",
    f"{_T}state/test_torn_checkpoints.py",
)
_OPTIMIZER = (f"{_T}test_optimizer.py",)
_RATES = ("tests/unit/optimizers/test_rates.py",)

TRAIN = [
    Mutant("optimizers.rates:learning_rate", "(step + 1) / schedule.warmup_steps", "step / schedule.warmup_steps", _RATES),
    Mutant("optimizers.rates:learning_rate", "schedule.minimum + (1.0 - schedule.minimum) * left", "max(schedule.minimum, left)", _RATES),
    Mutant("optimizers.rates:_done", "end - begin", "end", _RATES),
    Mutant("optimizers.rates:_left_of_cooldown", "max(total_steps - steps, section.warmup_steps)", "total_steps - steps", _RATES),
    Mutant("optimizers.rates:_left_of_inverse_sqrt", "step + 1", "step + 2", _RATES),
    Mutant("optimizers.adamw.update:is_exempt", "dims < 2", "dims < 3", _OPTIMIZER),
    Mutant("optimizers.adamw.update:AdamWUpdate.__init__", "betas=section.betas, ", "", _OPTIMIZER),
    Mutant("optimizers.adamw.update:AdamWUpdate.set_step", "float(step)", "0.0", _OPTIMIZER),
    Mutant("optimizers.adamw.update:AdamWUpdate.step", 'group["lr"] = lr', "pass", _OPTIMIZER),
    Mutant("optimizers.adamw.update:AdamWUpdate.step", "is_broken.float()", "torch.zeros(())", _OPTIMIZER),
    Mutant("train.engine:Engine._clipping", "clip / norm.clamp(min=clip)", "clip / norm", (), (cases.UNREACHED, cases.WITHOUT_LOSS)),
    Mutant("train.engine:Engine._clipping", "sums[_SCALARS:]", "sums[_SCALARS + 1 :]", (), (cases.PAIR,)),
    Mutant("train.engine:Engine._local_mtp_loss", "/ self._mtp_depths", "/ len(found)", (), (cases.FURTHER,)),
    Mutant("train.engine:Engine.evaluate_step", "dist.all_reduce(total, group=self._groups.collective(self.plan.placement.active))", "pass", (), (cases.EVALUATED,)),
    Mutant("train.engine:Engine._has_gradients", " and node.module in self._under_way.reached", "", (), (cases.WITHOUT_IMAGES, cases.NO_IMAGE)),
    Mutant("train.engine:Engine._step", "self.optimizer_step += 1", "self.optimizer_step = 1", (), (cases.CHECKPOINT, cases.KILLED)),
    Mutant("layers.moe.sublayer:Moe.settle", " and self.router.weight.requires_grad", "", (), (cases.FROZEN_ROUTER,)),
    Mutant("train.routing:RoutedStep._local", "counts += seen", "counts = seen", (), (cases.EXPERTS,)),
    Mutant("train.routing:RoutedStep.counts", "dist.all_reduce(total, group=group)", "pass", (), (cases.EXPERTS,)),
    Mutant("train.replica:square_sum", "/ replicas", "", (), (cases.PAIR, cases.REPLICAS)),
    Mutant("train.replica:Replica.tie", "self.tie_group is not None and ", "self.tie_group is not None and self.tensor_group is None and ", (), (cases.TIED,)),
    Mutant("train.replica:Replica.finish_reduction", 'p.block.reduction == "partial" and ', 'p.block.reduction != "shard" and ', (), (cases.WITHOUT_SEQUENCE,)),
    Mutant("train.replica:build_replica", "counts_loss=is_loss and coordinate.tp == 0", "counts_loss=is_loss", (), (cases.PAIR,)),
    Mutant("train.replica:build_replica", "replicas * copies", "replicas", (), (cases.TIED,)),
    Mutant("parallelize.apply:_freeze", "is_trained(how.known_as.get(name, name), how.train)", "is_trained(name, how.train)", (), (cases.TIED_ONLY, cases.FROZEN_STATE)),
    Mutant("train.evaluation:Evaluator.run", "total + loss * weight, weights + weight", "total + loss, weights + 1", (f"{_T}test_evaluation.py",)),
    Mutant("train.evaluation:Evaluator.run", "with_mtp=False", "with_mtp=True", (f"{_T}test_evaluation.py",)),
    Mutant("train.run_data:RunData._first_unread", " + STEPS_AHEAD + 1", "", (f"{_T}test_exclusions.py",)),
    Mutant("train.run_data:RunData.resume", "self.corpus = self.corpus.without(Exclusion(*entry) for entry in state.exclusions)", "pass", (f"{_T}test_exclusions.py",)),
    Mutant("train.loop:_due", "step % every == 0", "step % every == 1", (f"{_T}test_evaluation.py",)),
    Mutant("train.loop:Pace.is_saved", "done == self.steps or ", "", (f"{_T}test_exclusions.py",)),
    Mutant("train.state.saving:Saver.save", "tuple((e.source, e.index, e.from_step) for e in exclusions)", "()", (f"{_T}test_exclusions.py",)),
    Mutant("train.warm.start:warm_start", " and one.block.name not in fresh", "", (f"{_C}test_warm_start.py",), (cases.WARM,)),
    Mutant("train.warm.start:_checkpoint", "steps[-1]", "steps[0]", (f"{_T}warm/test_start.py",)),
    Mutant("train.metrics.measures:imbalance", "sum(max(lanes) for lanes in costs)", "max(max(lanes) for lanes in costs)", (f"{_T}metrics/test_recorder.py",)),
    Mutant("train.metrics.recorder:RunRecorder.step", "\"step_seconds\": passed / steps", "\"step_seconds\": passed", (f"{_T}metrics/test_recorder.py",)),
    Mutant("train.state.saving:Saver._load", "engine.optimizer_step, engine.skipped = state.optimizer_step, state.skipped", "pass", (), (cases.CHECKPOINT, cases.KILLED)),
    Mutant("train.state.saving:Saver._load", "optimizer.set_step(state.optimizer_step - state.skipped)", "pass", (), (cases.KILLED,)),
    Mutant("train.state.writer:CheckpointWriter.write", "{key: block.staged() for key, block in tensors.items()}", "dict(tensors)", _SAVED, (cases.KILLED,)),
    Mutant("train.state.writer:superfluous", "counted[-keep_last:]", "counted[-keep_last - 1 :]", _SAVED),
    Mutant("train.state.stored_block:BlockLoadPlanner.create_local_plan", "[block.chunk]", "[block.chunk][:1] * bool(block.chunk.offsets[0] == 0)", _SAVED, (cases.CHECKPOINT,)),
    Mutant("train.state.storage:VerifyingReader._read", "digest.update(data)", "digest.update(data[:-1])", _SAVED),
    Mutant("train.state.storage:VerifyingReader._read", "if size != self._manifest", "if False and size != self._manifest", _SAVED),
    Mutant("train.state.storage:DigestingWriter.write_data", "file.flush()", "pass", _SAVED),
    Mutant("train.state.storage:DigestingWriter.finish", "sync(self._folder / METADATA_FILE)", "pass", _SAVED),
    Mutant("train.state.manifest:read_whole", "manifest.whole.get(name) != WholeFile.of(data)", "manifest.whole[name].size_bytes != len(data)", _SAVED),
    Mutant("train.state.manifest:read_manifest", "if _sealed(content) == data else None", "", _SAVED),
    Mutant("train.state.manifest:unreadable", "error.errno in _DAMAGE", "True", _SAVED),
    Mutant("train.state.checkpoint:open_checkpoint", "manifest is None and _says_manifest(state)", "False", _SAVED),
    Mutant("train.state.writer:CheckpointWriter._publish", "sync(partial)", "pass", _SAVED),
    Mutant("train.state.writer:CheckpointWriter._publish", "sync(final.parent)", "pass", _SAVED),
    Mutant("train.state.resume:open_newest", "raise none_is_whole(run, passed)", "return None", (f"{_C}test_passed_over.py",)),
    Mutant("train.state.resume:check_data", '"run.seed": identity.seed, ', '"run.seed": state.seed, ', (f"{_C}test_refused_resume.py",)),
]  # fmt: skip
