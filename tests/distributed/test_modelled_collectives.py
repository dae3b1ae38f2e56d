"""What the proof is about is what runs: every collective of a step belongs to an action that it expects it of."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist

from counterpoint.check.events import Collective, expand
from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.data.feed.reader import Reader
from counterpoint.plan.action import Action, Compute, Reduce
from counterpoint.setup.rank import settings_of
from counterpoint.setup.run import prepare_run
from counterpoint.train.engine import Engine
from counterpoint.verify.command import as_verified
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.distributed.optimizers import MUON
from tests.distributed.spare import is_spare
from tests.parity.layouts import TINY, override, pair, ranks
from tests.parity.steps import hybrid_step_config, step_config

Issued = set[tuple[Action, tuple[int, ...]]]
"""Collectives, by the action that issues them and the ranks that join."""

OLD_NAMES = ("all_reduce", "all_gather_into_tensor", "reduce_scatter_tensor", "all_to_all_single")
NEW_NAMES = ("all_gather_single", "reduce_scatter_single")
"""The same as the two in the middle, from torch 2.13 on."""


@pytest.mark.parametrize(
    "name",
    ["zero_bubble_tied_tp2", "zero_bubble_tied_over_pp2", "interleaved_encoder", "recomputed", "frozen_vision_ahead"],
)
def test_every_collective_of_a_step_is_expected(pool: Pool, name: str) -> None:
    assert pool.run(_unexpected_task, step_config(name)) == []


def test_those_of_experts_are_too(pool: Pool) -> None:
    assert pool.run(_unexpected_task, hybrid_step_config("zero_bubble_ep4")) == []


@pytest.mark.parametrize("name", ["zero_bubble_ep4", "pp2_ep2"])
def test_those_of_muon_are_too(pool: Pool, name: str) -> None:
    config = override(hybrid_step_config("zero_bubble_ep4"), MUON)
    if name == "pp2_ep2":
        config = override(config, {"modules.language.layout": {"ranks": [0, 1, 2, 3], "pp": 2, "expert": {"ep": 2}}})
    assert pool.run(_unexpected_task, config) == []


def test_those_of_losses_of_items_means_are_too(pool: Pool) -> None:
    """A lane of two context-parallel and two tensor-parallel ranks, in the last of two stages."""
    vision = {"ranks": ranks(0, 8), "pp": 2, "cp": 2, "tp": 2}
    losses = {"modules.vision.losses": [{"kind": "contrastive", "targets": "captions"}]}
    config = override(load_config(TINY), pair(8, vision, {"ranks": [7]}) | losses)
    assert pool.run(_unexpected_task, as_verified(config, "float64")) == []


def _unexpected_task(member: Member, config: Config) -> object:
    """Collectives that a step issues and the proof knows nothing of, by rank, in words."""
    if is_spare(member, config):
        return None
    plan, models, corpus = prepare_run(config)
    groups, rank = member.groups(plan), member.world.rank
    at: list[Action] = []
    engine = Engine(settings_of(config), plan, models, groups, observers=(member.observe, at.append))
    reader = Reader(plan, rank, corpus.sources, torch.float64)
    depth = plan.run_ahead
    inputs = [reader.read(plan.batch(step, corpus.packs(step))) for step in range(1 + depth)]
    for early in inputs[:depth]:
        engine.run_ahead(early)
    ahead = inputs[depth] if depth else None
    with _issued(at) as issued:
        engine.train_step(inputs[0], ahead)
    engine.close()
    batch, batch_ahead = inputs[0].batch, None if ahead is None else ahead.batch
    programs = {rank: plan.program(plan.schedule, rank, batch, batch_ahead)}
    events = expand(plan, programs, batch, batch_ahead)[rank]
    expected = {(event.action, event.ranks) for event in events if isinstance(event, Collective)}
    # Right behind a backward its reduction begins inside.
    for action in plan.schedule.reducing:
        assert isinstance(action, Compute)
        expected |= {(action, ranks) for other, ranks in expected if other == Reduce(action.node)}
    assert issued, "a step without a collective proves nothing"
    unexpected = sorted(f"rank {rank} at {action}: {ranks}" for action, ranks in issued - expected)
    assert groups.control is not None
    told = groups.control.gather(unexpected)
    return None if told is None else [one for each in told for one in each]


@contextmanager
def _issued(at: list[Action]) -> Iterator[Issued]:
    """The collectives of several ranks that are issued meanwhile, each at the last action of `at`."""
    issued: Issued = set()

    def noting(plain: Callable[..., Any]) -> Callable[..., Any]:
        def collective(*args: Any, group: dist.ProcessGroup, **others: Any) -> Any:
            ranks = tuple(dist.get_process_group_ranks(group))
            if len(ranks) > 1:
                issued.add((at[-1], ranks))
            return plain(*args, group=group, **others)

        return collective

    with ExitStack() as patches:
        for name in (*OLD_NAMES, *(name for name in NEW_NAMES if name in vars(dist))):
            patches.enter_context(patch.object(dist, name, noting(getattr(dist, name))))
        yield issued
