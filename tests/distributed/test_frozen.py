"""What is not trained costs nothing, and what runs ahead changes nothing."""

from collections.abc import Iterator
from pathlib import Path

import torch

from counterpoint.config.schema import Config
from counterpoint.data.feed.reader import Reader, StepInputs
from counterpoint.setup.rank import saver_of, settings_of
from counterpoint.setup.run import build_models, prepare_run
from counterpoint.train.engine import Engine
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.distributed.spare import is_spare
from tests.parity.layouts import override
from tests.parity.steps import step_config

STEPS, SAVED_AFTER = 5, 2


def test_what_is_frozen_has_no_gradient_and_no_optimizer_state(pool: Pool) -> None:
    found = pool.run(_holdings_task, step_config("projector_and_language"))
    assert {key.split(".")[0] for key, trained, _gradients, _moments in found if not trained} == {"vision"}
    assert any(key == "vision.projector.mlp.up.weight" and trained for key, trained, _gradients, _moments in found)
    for key, trained, gradients, moments in found:
        assert (gradients, moments) == ((1, 2) if trained else (0, 0)), key


def test_a_frozen_module_has_no_optimizer(pool: Pool) -> None:
    found = pool.run(_holdings_task, step_config("frozen_language"))
    assert {key.split(".")[0] for key, trained, _gradients, _moments in found if trained} <= {"vision"}
    assert all((gradients, moments) == (0, 0) for key, trained, gradients, moments in found if "language" in key)


def test_running_ahead_has_its_depth_and_is_bit_identical_to_none(pool: Pool) -> None:
    ahead = step_config("frozen_vision_2_ahead")
    losses, depths = pool.run(_steps_task, ahead)
    plain, none = pool.run(_steps_task, override(ahead, {"schedule.run_ahead": 0}))
    assert losses == plain
    assert depths == [(1, 2), (2, 3), (3, 4), (4,), ()]
    assert none == [()] * STEPS


def test_a_checkpoint_drops_what_ran_ahead(pool: Pool, tmp_path: Path) -> None:
    config = override(step_config("frozen_vision_2_ahead"), {"run.dir": str(tmp_path)})
    uninterrupted, resumed = pool.run(_resume_task, config)
    assert resumed == uninterrupted


def _engine(member: Member, config: Config) -> tuple[Engine, list[StepInputs]]:
    plan, models, corpus = prepare_run(config)
    engine = Engine(settings_of(config), plan, models, member.groups(plan), observers=(member.observe,))
    reader = Reader(plan, member.world.rank, corpus.sources, torch.float64)
    return engine, [reader.read(plan.batch(step, corpus.packs(step))) for step in range(STEPS)]


def _run(engine: Engine, inputs: list[StepInputs]) -> Iterator[float]:
    depth = engine.plan.run_ahead
    for early in inputs[:depth]:
        engine.run_ahead(early)
    for number, one in enumerate(inputs):
        later = inputs[number + depth] if depth and number + depth < len(inputs) else None
        yield engine.train_step(one, later).loss


def _holdings_task(member: Member, config: Config) -> object:
    """Per parameter with elements here: is it trained, and how many tensors of gradients and of moments it has."""
    if is_spare(member, config):
        return None
    engine, inputs = _engine(member, config)
    gradients: set[str] = set()
    engine.inspect = lambda parameters: gradients.update(p.key for p in parameters if p.parameter.grad is not None)
    next(_run(engine, inputs))
    moments = [p.key for one in engine.optimizers.values() for p, _name, _tensor in one.moments()]
    frozen = [p.key for p in engine.parameters if not p.is_trained and p.parameter.grad is not None]
    assert not frozen, "what is frozen gets no gradient"
    engine.close()
    found = [(p, int(p.key in gradients), moments.count(p.key)) for p in engine.parameters if p.block.numel]
    return [(p.key, p.is_trained, *counts) for p, *counts in found] if member.world.rank == 0 else None


def _steps_task(member: Member, config: Config) -> object:
    if is_spare(member, config):
        return None
    engine, inputs = _engine(member, config)
    losses, depths = [], []
    for loss in _run(engine, inputs):
        losses.append(loss)
        depths.append(engine.steps_ahead)
    engine.close()
    return (losses, depths) if member.world.rank == 0 else None


def _resume_task(member: Member, config: Config) -> object:
    if is_spare(member, config):
        return None
    engine, inputs = _engine(member, config)
    saver = saver_of(config, build_models(config), member.groups(engine.plan))
    losses = []
    for number, loss in enumerate(_run(engine, inputs)):
        losses.append(loss)
        if number + 1 == SAVED_AFTER:
            saver.save(engine, SAVED_AFTER, ())
            saver.finish()
    engine.close()
    other, _inputs = _engine(member, config)
    resumption = saver_of(config, build_models(config), member.groups(other.plan)).resume(other)
    assert resumption.state.data_step == SAVED_AFTER
    resumed = list(_run(other, inputs[SAVED_AFTER:]))
    other.close()
    return (losses[SAVED_AFTER:], resumed) if member.world.rank == 0 else None
