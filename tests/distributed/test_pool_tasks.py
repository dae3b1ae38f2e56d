"""What needs several ranks but no training run: exchanges, checkpoints across layouts, hangs and the watchdog."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from counterpoint.check.blame import walk_of
from counterpoint.check.proof import check_programs
from counterpoint.config.schema import Config
from counterpoint.data.feed.reader import Reader
from counterpoint.data.order.order import Exclusion
from counterpoint.errors import CheckpointError, ProofError
from counterpoint.execute.failure import FailureBoard
from counterpoint.execute.groups import Groups
from counterpoint.execute.watchdog import Watchdog
from counterpoint.parallelize.blocks import whole_block
from counterpoint.plan.action import Action, parse_action
from counterpoint.plan.plan import Plan
from counterpoint.setup.rank import saver_of, settings_of
from counterpoint.setup.run import build_models, prepare_run
from counterpoint.train.engine import Engine
from counterpoint.train.state.checkpoint import checkpoint_folder, list_checkpoints, open_checkpoint, read_tensors
from counterpoint.train.state.saving import model_tensors, optimizer_tensors
from counterpoint.train.state.stored_block import StoredBlock
from counterpoint.train.versions import check_versions
from counterpoint.verify.case import _gather
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool, PoolError
from tests.distributed.cases_context import context_parallel_equals_plain
from tests.distributed.cases_tensor import tensor_parallel_equals_plain
from tests.distributed.optimizers import adamw_states
from tests.parity.layouts import language_only, named_config, override

LEFT_OUT = Exclusion(source=0, index=5, from_step=9)


@pytest.mark.parametrize("size", [pytest.param(2, marks=pytest.mark.more), 3])
def test_tensor_parallel_parts_equal_plain_ones(pool: Pool, size: int) -> None:
    pool.run(_tensor_task, size)


@pytest.mark.parametrize("size", [2, 3])
def test_layers_under_context_parallelism_equal_plain_ones(pool: Pool, size: int) -> None:
    pool.run(_context_task, size)


def test_ranks_compare_the_versions_of_their_plugins(pool: Pool) -> None:
    config = named_config("dp2_to_tp2")
    pool.run(_versions_task, config, {})
    with pytest.raises(
        PoolError, match=r"got brought 1\.0 on rank 0 and 1\.1 on rank 2, expected one version"
    ) as caught:
        pool.run(_versions_task, config, {2: "1.1"})
    assert caught.value.exit_code == 2


def test_a_checkpoint_is_read_by_any_layout_bit_for_bit(pool: Pool, tmp_path: Path) -> None:
    written = _in_run(named_config("dp2_to_tp2"), tmp_path)
    read = _in_run(named_config("homogeneous_pp2_tp2_dp2"), tmp_path)
    untied = {"modules.language.model.tied": False}
    pool.run(_train_and_save_task, override(written, untied), 2)
    before = pool.run(_whole_state_task, override(written, untied))
    after, older, refusals = pool.run(_damage_task, override(read, untied))
    assert before.keys() == after.keys()
    assert [key for key in before if not torch.equal(before[key], after[key])] == []
    assert all("exp_avg_sq" not in key or tensor.any() for key, tensor in after.items())
    # What one rank saw to be damaged was passed over by all of them.
    truth = _read_whole(checkpoint_folder(tmp_path, 1))
    assert before.keys() == older.keys() == truth.keys()
    assert [key for key in truth if not torch.equal(truth[key], older[key])] == []
    assert any(not torch.equal(before[key], older[key]) for key in truth)
    assert len(refusals) == 8
    assert set(refusals) == {refusals[0]}
    assert "none of the 2 checkpoints in" in refusals[0]


def test_a_checkpoint_of_another_model_is_refused(pool: Pool, tmp_path: Path) -> None:
    config = _in_run(named_config("disjoint_1_to_1"), tmp_path)
    pool.run(_train_and_save_task, config, 1)
    opened = open_checkpoint(checkpoint_folder(tmp_path, 1))
    key, whole = "model/language.norm.weight", torch.zeros(24, dtype=torch.float64)
    with pytest.raises(CheckpointError, match="111 are unknown"):
        read_tensors(opened, {key: _stored(whole)}, None, prefix="model/")
    with pytest.raises(CheckpointError, match=r"has the shape \(24,\), expected \(25,\)"):
        read_tensors(opened, {key: _stored(torch.zeros(25, dtype=torch.float64))}, None, prefix=key)
    (tmp_path / "checkpoints" / "step-00000009.partial").mkdir()
    assert list_checkpoints(tmp_path) == [1]


def test_a_rejected_plan_hangs_and_the_watchdog_says_where(tmp_path: Path) -> None:
    """Design D2's case: receives posted ahead block a send that they in the end depend on, on one communicator."""
    config = _three_stages()
    plan = prepare_run(config).plan
    with pytest.raises(ProofError, match="HERE"):
        check_programs(plan, _receives_ahead(plan))
    # A rank ends by its watchdog, or because another has; on a busy machine either is heard first.
    heard = "ended without an answer|Connection closed by peer"
    with Pool(3, timeout_seconds=40.0) as own, pytest.raises(PoolError, match=heard):
        own.run(_hang_task, config, str(tmp_path))
    stacks = {rank: (tmp_path / f"hang-rank{rank}.txt").read_text() for rank in range(3)}
    for rank, action in enumerate(("language.0B0", "language.1B0", "language.2F0")):
        assert f"rank {rank} stands in step 0: {action} and waits for rank" in stacks[rank]
    assert "most recent call first" in stacks[0]
    assert '"kind": "HangError"' in (tmp_path / "error.json").read_text()


def _three_stages() -> Config:
    return language_only({"ranks": [0, 1, 2], "pp": 3}, 3, **{"schedule.microbatches": 4})


def _receives_ahead(plan: Plan) -> dict[int, tuple[Action, ...]]:
    """The middle stage posts all of its receives before its first send; the last one waits for that send's answer."""
    programs = dict(plan.schedule.programs)
    early = [parse_action(f"language.0>language.1F{m}") for m in (1, 2, 3)]
    rest = [action for action in programs[1] if action not in early]
    place = rest.index(parse_action("language.1>language.2F0"))
    programs[1] = (*rest[:place], *early, *rest[place:])
    return programs


def _in_run(config: Config, folder: Path) -> Config:
    return override(config, {"run.dir": str(folder), "checkpoint.asynchronous": False})


def _stored(tensor: torch.Tensor) -> StoredBlock:
    return StoredBlock(whole_block("x", tuple(tensor.shape)), tensor)


def _versions_task(member: Member, config: Config, others: dict[int, str]) -> None:
    """Compare versions of 1.0 but those of `others`, by rank."""
    plan = prepare_run(config).plan
    groups = member.groups(plan)
    if member.world.rank in plan.placement.active:
        versions = {"brought": others.get(member.world.rank, "1.0")}
        check_versions(versions, plan.placement.active, groups.control)


def _tensor_task(member: Member, size: int) -> None:
    group = dist.new_group(list(range(size)))
    if member.world.rank < size:
        tensor_parallel_equals_plain(member.world.rank, group, size)
    dist.destroy_process_group(group) if member.world.rank < size else None


def _context_task(member: Member, size: int) -> None:
    group = dist.new_group(list(range(size)))
    if member.world.rank < size:
        context_parallel_equals_plain(member.world.rank, group, size)
        dist.destroy_process_group(group)


def _engine(member: Member, config: Config) -> tuple[Plan, Any, Any, Engine | None]:
    plan, models, corpus = prepare_run(config)
    groups = member.groups(plan)
    if member.world.rank not in plan.placement.active:
        return plan, corpus, groups, None
    return plan, corpus, groups, Engine(settings_of(config), plan, models, groups, (member.observe,))


def _train_and_save_task(member: Member, config: Config, steps: int) -> None:
    plan, corpus, groups, engine = _engine(member, config)
    if engine is None:
        return
    reader = Reader(plan, member.world.rank, corpus.sources, torch.float64)
    saver = saver_of(config, build_models(config), groups)
    for step in range(steps):
        engine.train_step(reader.read(plan.batch(step, corpus.packs(step))))
        saver.save(engine, step + 1, (LEFT_OUT,))
    saver.finish()
    engine.close()


def _whole_state_task(member: Member, config: Config) -> dict[str, torch.Tensor] | None:
    """Resume on a layout and gather the whole tensors of parameters and moments on one rank."""
    _plan, _corpus, groups, engine = _engine(member, config)
    if engine is None:
        return None
    whole = _resumed_at(2, config, groups, engine)
    engine.close()
    return whole or None


def _resumed_at(step: int, config: Config, groups: Groups, engine: Engine) -> dict[str, torch.Tensor]:
    """The whole state of an engine that has resumed, from a step that is checked, on one rank."""
    resumption = saver_of(config, build_models(config), groups).resume(engine)
    assert resumption.note is None
    assert resumption.state.exclusions == ((LEFT_OUT.source, LEFT_OUT.index, LEFT_OUT.from_step),)
    assert resumption.step == resumption.state.optimizer_step == engine.optimizer_step == step
    assert {passed.step for passed in resumption.passed_over} == {2} - {step}
    for optimizer in engine.optimizers.values():
        assert {int(state["step"]) for state in adamw_states(optimizer)} <= {step}
    tensors = {**model_tensors(engine), **optimizer_tensors(engine)}
    pieces = {(step, "state", key): (block._block, block._tensor.clone()) for key, block in tensors.items()}
    return {key: whole for (_step, _kind, key), whole in _gather(pieces, groups).items()}


def _damage_task(member: Member, config: Config) -> object:
    """The whole state of both checkpoints, of the older one once the newer one is damaged, and what all ranks say once
    both are."""
    _plan, _corpus, groups, engine = _engine(member, config)
    assert engine is not None
    newest = _resumed_at(2, config, groups, engine)
    run = Path(config.run.dir)
    _alone(member, groups, lambda: _flip_last_byte(max(checkpoint_folder(run, 2).glob("*.distcp"))))
    older = _resumed_at(1, config, groups, engine)
    _alone(member, groups, lambda: _flip_last_byte(checkpoint_folder(run, 1) / "state.json"))
    said = ""
    try:
        saver_of(config, build_models(config), groups).resume(engine)
    except CheckpointError as error:
        said = str(error)
    every = groups.storage.gather(said)
    engine.close()
    _alone(member, groups, lambda: _flip_last_byte(checkpoint_folder(run, 1) / "state.json"))
    return (newest, older, every) if newest else None


def _alone(member: Member, groups: Groups, act: Callable[[], object]) -> None:
    """One rank does something while the others wait."""
    assert groups.storage is not None
    groups.storage.maximum(0)
    if member.world.rank == 0:
        act()
    groups.storage.maximum(0)


def _flip_last_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def _read_whole(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, read by this process."""
    opened = open_checkpoint(folder)
    tensors = {key: torch.zeros(shape, dtype=torch.float64) for key, shape in opened.shapes.items()}
    blocks = {key: StoredBlock(whole_block(key, tuple(tensor.shape)), tensor) for key, tensor in tensors.items()}
    read_tensors(opened, blocks, None)
    return tensors


def _hang_task(member: Member, config: Config, folder: str) -> None:
    watchdog = Watchdog(member.world.rank, 3.0, Path(folder), FailureBoard(member.world.store))
    plan, models, corpus = prepare_run(config)
    # What the proof refuses can reach ranks only past the property that holds the proved template.
    vars(plan)["schedule"] = replace(plan.schedule, programs=_receives_ahead(plan))
    groups = member.groups(plan)
    engine = Engine(settings_of(config), plan, models, groups, (watchdog.observe,))
    reader = Reader(plan, member.world.rank, corpus.sources, torch.float64)
    inputs = reader.read(plan.batch(0, corpus.packs(0)))
    members = {c.name: c.ranks for c in plan.communicators if not c.is_transfer}
    watchdog.watch(plan.placement.active, members, groups.calls, member.world.device)
    watchdog.enter("training", 0, walk=lambda: walk_of(plan, plan.schedule, inputs.batch, None))
    watchdog.start()
    engine.train_step(inputs)
