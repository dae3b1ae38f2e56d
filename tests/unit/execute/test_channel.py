"""Channels: exchanges of a communicator run one after the other, beside those of others, and say what went wrong."""

import weakref
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from counterpoint.execute.channel import StreamChannel, ThreadChannel, connect, open_channel
from counterpoint.plan import peers
from counterpoint.plan.action import Direction
from counterpoint.plan.communicators import transfer_name
from counterpoint.plan.plan import Plan
from tests.unit.execute.held import HeldGroup, held_groups
from tests.unit.execute.mailroom import Mailroom
from tests.unit.execute.rank import CPU, on_threads
from tests.unit.plan.strategies import plans

ROWS = torch.zeros(2)


@pytest.fixture
def groups() -> Iterator[list[HeldGroup]]:
    """Two communicators of rank 1 of 4."""
    with held_groups(rank=1, size=4, count=2) as made:
        yield made


def test_exchanges_of_a_communicator_run_one_after_the_other(groups: list[HeldGroup]) -> None:
    """All operations of one begin at once, those of the next when the last of them is complete."""
    group = groups[0]
    channel = ThreadChannel("a", group)
    first = channel.exchange([(0, ROWS)], [(2, ROWS), (3, ROWS)])
    second = channel.exchange([], [(0, ROWS)])
    works = group.until(3)
    for work in works[:2]:
        work.finish()
    works[2].until_awaited()
    assert group.words == ["to 0", "from 2", "from 3"]
    assert not first.is_completed()
    works[2].finish()
    first.wait()
    assert first.is_completed()
    group.until(4)[3].finish()
    second.wait()
    assert group.words[3:] == ["from 0"]
    channel.close()


def test_each_communicator_has_a_thread_and_waits_for_no_other(groups: list[HeldGroup]) -> None:
    channels = [ThreadChannel(name, group) for name, group in zip("ab", groups, strict=True)]
    stuck = channels[0].exchange([(0, ROWS)], [])
    (work,) = groups[0].until(1)
    for number in range(2):
        other = channels[1].exchange([(0, ROWS)], [])
        groups[1].until(number + 1)[number].finish()
        other.wait()
    assert not stuck.is_completed()
    work.finish()
    stuck.wait()
    names = [{work.thread for work in group.begun} for group in groups]
    assert [[name.rpartition("_")[0] for name in of] for of in names] == [["channel a"], ["channel b"]]
    for channel in channels:
        channel.close()


def test_who_waits_hears_what_went_wrong_and_the_next_exchange_runs(groups: list[HeldGroup]) -> None:
    channel = ThreadChannel("a", groups[0])
    broken, next_one = channel.exchange([(0, ROWS)], []), channel.exchange([(2, ROWS)], [])
    groups[0].until(1)[0].finish(RuntimeError("Connection closed by peer"))
    for _time in range(2):
        with pytest.raises(RuntimeError, match="Connection closed by peer"):
            broken.wait()
    assert broken.is_completed()
    groups[0].until(2)[1].finish()
    next_one.wait()
    channel.close()


def test_a_closed_channel_begins_nothing_more(groups: list[HeldGroup]) -> None:
    channel = ThreadChannel("a", groups[0])
    under_way, queued = channel.exchange([(0, ROWS)], []), channel.exchange([(2, ROWS)], [])
    (work,) = groups[0].until(1)
    channel.close()
    with pytest.raises(CancelledError):
        queued.wait()
    work.finish()
    under_way.wait()
    assert groups[0].words == ["to 0"]


def test_on_a_stream_all_operations_are_posted_at_once(groups: list[HeldGroup]) -> None:
    """They are complete when all of them are; an exchange of none is complete from the start."""
    channel = StreamChannel(groups[0])
    first, second = channel.exchange([(0, ROWS), (2, ROWS)], []), channel.exchange([], [(3, ROWS)])
    assert groups[0].words == ["to 0", "to 2", "from 3"]
    works = groups[0].begun
    works[0].finish()
    assert not first.is_completed()
    works[1].finish()
    first.wait()
    assert first.is_completed()
    assert not second.is_completed()
    works[2].finish(RuntimeError("NCCL"))
    with pytest.raises(RuntimeError, match="NCCL"):
        second.wait()
    assert channel.exchange([], []).is_completed()


def test_tensors_on_a_stream_live_until_their_exchange_is_dropped(groups: list[HeldGroup]) -> None:
    memory = np.zeros(2, dtype=np.float32)
    held = weakref.ref(memory)
    pending = StreamChannel(groups[0]).exchange([(0, torch.from_numpy(memory))], [])
    del memory
    assert held() is not None
    del pending
    assert held() is None


def test_a_device_has_the_channel_that_suits_it(groups: list[HeldGroup]) -> None:
    threads = open_channel("a", groups[0], CPU)
    assert isinstance(threads, ThreadChannel)
    threads.close()
    assert isinstance(open_channel("a", groups[0], torch.device("cuda")), StreamChannel)


@settings(max_examples=25)
@given(plans(max_world=8))
def test_each_pair_that_can_meet_is_connected_once_each_way(plan: Plan) -> None:
    """As long as a group has at most so many operations, and with nothing left under way."""

    def part(rank: int, room: Mailroom) -> Mailroom:
        connect(plan, room.channels(plan, rank), rank, CPU)
        return room

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(peers, "MOST_OPERATIONS", 4)
        room = on_threads(plan, part)[0]
        assert all(len(sends) + len(receives) <= 4 for _name, _rank, sends, receives in room.posted)
    expected = Counter(
        (transfer_name(plan.placement, link, direction, a), a, b)
        for link in plan.stages.links
        for direction in Direction
        for a, b in plan.pairs(link, direction)
    )
    assert Counter((name, a, b) for name, a, sends, _receives in room.posted for b, _size in sends) == expected
    assert Counter((name, a, b) for name, b, _sends, receives in room.posted for a, _size in receives) == expected
    assert room.is_empty
