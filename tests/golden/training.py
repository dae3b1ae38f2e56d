"""What one process computes of a config: its parameters, its first steps in float64, and what a checkpoint holds."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from counterpoint.config.load import load_run_config
from counterpoint.config.run_files import CONFIG_FILE
from counterpoint.data.feed.reader import Reader
from counterpoint.parallelize.fsdp import dtype_of
from counterpoint.setup.rank import saver_of, settings_of
from counterpoint.setup.run_folder import open_run_folder
from counterpoint.train.engine import Engine, StepResult
from counterpoint.train.state.saving import model_tensors, optimizer_tensors
from counterpoint.verify.member import Member
from tests.golden.cases import Config, load_config
from tests.golden.digest import bits, digest
from tests.golden.plans import prepare_run
from tests.golden.written import Golden

STORED_STEPS = 2
"""Steps of a stored run, and as many after it goes on."""


@contextmanager
def one_rank() -> Iterator[Member]:
    """This process as the only rank of a world."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    member = Member.join("cpu")
    yield member
    member.cache.destroy()
    torch.distributed.destroy_process_group()


def training_goldens(member: Member, config: Config, steps: int) -> dict[str, Golden]:
    """By kind, what a config computes in one process."""
    plan, models, corpus = prepare_run(config)
    engine = Engine(settings_of(config), plan, models, member.groups(plan), observers=(member.observe,))
    reader = Reader(plan, 0, corpus.sources, dtype_of(config.training.precision.compute))
    found = {"parameters": parameters_of(engine)}
    try:
        depth = max(plan.stages.ahead.values(), default=0)
        inputs = [reader.read(plan.batch(step, corpus.packs(step))) for step in range(steps)]
        for early in inputs[:depth]:
            engine.run_ahead(early)
        results = [
            engine.train_step(inputs[step], inputs[step + depth] if depth and step + depth < steps else None)
            for step in range(steps)
        ]
        found["losses"] = {f"step {step}": step_golden(result) for step, result in enumerate(results)}
        found["checkpoint"] = {
            key: f"{tuple(block.global_shape)} {_bytes_of(block.tensor)}"
            for key, block in {**model_tensors(engine), **optimizer_tensors(engine)}.items()
        }
        found["evaluation"] = {}
        for split in corpus.evaluation:
            own = Reader(plan, 0, split.sources, dtype_of(config.training.precision.compute), with_mtp=False)
            loss = engine.evaluate_step(own.read(plan.batch(0, next(iter(split.batches()))))).loss
            found["evaluation"][split.name] = bits(loss)
    finally:
        engine.close()
    return found


def resumed_goldens(member: Member, config: Config, folder: Path) -> dict[str, Golden]:
    """How a stored run goes on; without one in the folder it is written first."""
    if not folder.exists():
        _store(member, _in_folder(config, folder))
    stored = _in_folder(load_run_config(folder / CONFIG_FILE), folder)
    plan, models, corpus = prepare_run(stored)
    groups = member.groups(plan)
    engine = Engine(settings_of(stored), plan, models, groups, observers=(member.observe,))
    reader = Reader(plan, 0, corpus.sources, dtype_of(stored.training.precision.compute))
    try:
        first = saver_of(stored, models, groups).resume(engine).state.data_step
        steps = range(first, first + STORED_STEPS)
        results = [engine.train_step(reader.read(plan.batch(step, corpus.packs(step)))) for step in steps]
    finally:
        engine.close()
    return {"resumed": {f"step {step}": step_golden(result) for step, result in zip(steps, results, strict=True)}}


def _store(member: Member, config: Config) -> None:
    """Write the run folder of a config after its first steps."""
    plan, models, corpus = prepare_run(config)
    groups = member.groups(plan)
    engine = Engine(settings_of(config), plan, models, groups, observers=(member.observe,))
    reader = Reader(plan, 0, corpus.sources, dtype_of(config.training.precision.compute))
    try:
        open_run_folder(config, plan)
        for step in range(STORED_STEPS):
            engine.train_step(reader.read(plan.batch(step, corpus.packs(step))))
        saver = saver_of(config, models, groups)
        saver.save(engine, STORED_STEPS, ())
        saver.finish()
    finally:
        engine.close()


def _in_folder(config: Config, folder: Path) -> Config:
    data = config.resolved()
    data["run"]["dir"] = str(folder)
    return load_config(data)


def parameters_of(engine: Engine) -> Golden:
    """Shape, dtype, whether it is trained, and a hash of the initial values of all parameters and buffers."""
    trained = {one.key for one in engine.parameters if one.is_trained}
    found: dict[str, Any] = {"order": digest(" ".join(one.key for one in engine.held))}
    for one in engine.held:
        shape, kind = tuple(one.block.global_shape), str(one.value.dtype).removeprefix("torch.")
        found[one.key] = f"{shape} {kind} {'trained' if one.key in trained else 'kept'} {_bytes_of(one.value)}"
    return found


def step_golden(result: StepResult) -> Golden:
    """A step's sums, by their bits."""
    return {
        "loss": bits(result.loss), "balance loss": bits(result.balance_loss), "MTP loss": bits(result.mtp_loss),
        "expert load": bits(result.expert_load), "norm": bits(result.norm),
        **{f"norm {module}": bits(norm) for module, norm in result.module_norms.items()},
        **{f"learning rate {module}": bits(rate) for module, rate in result.learning_rates.items()},
    }  # fmt: skip


def _bytes_of(tensor: torch.Tensor) -> str:
    return digest(tensor.detach().double().contiguous().numpy().tobytes())
