"""A session: joins and leaves a world, waits as its limits say, and ends in one report whatever happened."""

import json
import math
import time
import traceback
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore, Store
from torch.distributed.checkpoint.api import CheckpointException

from counterpoint.check.blame import CONTROL, STORAGE
from counterpoint.config.training import WatchdogConfig
from counterpoint.errors import ConfigError
from counterpoint.execute import session
from counterpoint.execute.failure import Failure, FailureBoard, is_heard
from counterpoint.execute.groups import World, make_groups
from counterpoint.execute.session import RankFailedError, Session, open_session
from counterpoint.execute.watchdog import Watchdog
from counterpoint.execute.whereabouts import Limit
from tests.unit.execute.held import fake_world, join_as
from tests.unit.execute.rank import CPU
from tests.unit.plan.strategies import small_plan

LIMITS = WatchdogConfig(timeout_seconds=30.0, startup_seconds=600.0, checkpoint_seconds=60.0)
NAMED = Failure(1, "step 4: reading", "LostRankError", "rank 1 is gone", exit_code=1, teller=2)


class Told(Watchdog):
    """A watchdog that knows whom its rank lost."""

    told: Failure | None = None

    def lost(self, error: BaseException) -> Failure | None:
        """See Watchdog."""
        return self.told


def watchdog_of(rank: int, folder: Path, store: Store) -> Told:
    dog = Told(rank, LIMITS.timeout_seconds, folder, FailureBoard(store))
    dog.enter("reading", 4)
    return dog


@pytest.fixture
def dogs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Watchdog]]:
    """This process as the only rank of a world: the watchdogs that it has started, which are stopped in the end."""
    started: list[Watchdog] = []

    class Noted(Watchdog):
        def start(self) -> None:
            started.append(self)
            super().start()

    monkeypatch.setattr(session, "Watchdog", Noted)
    for of_the_process in ("_share_cores", "_keep_freed_memory"):
        monkeypatch.setattr(session, of_the_process, lambda: None)
    join_as(monkeypatch, 0, 1, 0)
    yield started
    for dog in started:
        dog.stop()
    if dist.is_initialized():
        dist.destroy_process_group()


def test_a_session_that_ends_in_order_leaves_nothing(dogs: list[Watchdog], tmp_path: Path) -> None:
    with open_session("cpu", tmp_path, LIMITS) as opened:
        (dog,) = dogs
        assert opened.watchdog is dog
        assert dog.host.phase == "start-up"
        assert dog.host.key == "watchdog.startup_seconds"
        assert dog._thread.is_alive()
        assert dist.is_initialized()
    assert not dog._thread.is_alive()
    assert not dist.is_initialized()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (ConfigError("run.seed: got -1"), "ConfigError", 2),
        (ValueError("no number"), "ValueError", 1),
        (SystemExit(7), "RunError", 7),
        (CheckpointException("save", {}), "CheckpointException", 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_whatever_ends_a_rank_is_written_down_and_is_its_exit_code(
    dogs: list[Watchdog], tmp_path: Path, error: BaseException, kind: str, code: int
) -> None:
    def end() -> None:
        with open_session("cpu", tmp_path, LIMITS) as opened:
            opened.watchdog.enter("checkpoint", 3)
            raise error

    with pytest.raises(RankFailedError) as raised:
        end()
    assert raised.value.code == code
    assert raised.value.__cause__ is error
    written = json.loads((tmp_path / "error.json").read_text())
    found = [written[key] for key in ("rank", "teller", "action", "kind", "exit_code")]
    assert found == [0, 0, "step 3: checkpoint", kind, code]


def test_what_was_reported_already_is_not_reported_again(dogs: list[Watchdog], tmp_path: Path) -> None:
    def end() -> None:
        with open_session("cpu", tmp_path, LIMITS):
            raise RankFailedError(5)

    with pytest.raises(RankFailedError) as raised:
        end()
    assert raised.value.code == 5
    assert list(tmp_path.iterdir()) == []


def test_collectives_outlast_every_limit_of_the_watchdog(dogs: list[Watchdog], tmp_path: Path) -> None:
    bounds: list[Any] = []

    def join(*arguments: Any) -> World:
        bounds.extend(arguments)
        raise ConfigError("enough")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(session, "join_world", join)
        with pytest.raises(RankFailedError), open_session("cpu", tmp_path, LIMITS):
            pass
    assert bounds == ["cpu", 6000.0, 600.0]
    assert json.loads((tmp_path / "error.json").read_text())["action"] == "start-up"


def test_the_first_of_anything_has_the_longer_limit(tmp_path: Path) -> None:
    store = HashStore()
    of = partial(Session, World(0, CPU, store, "fake", CPU), watchdog_of(0, tmp_path, store))
    assert of(LIMITS).startup_limit == Limit("watchdog.startup_seconds", 600.0)
    patient = LIMITS.model_copy(update={"timeout_seconds": 900.0})
    assert of(patient).startup_limit == Limit("watchdog.timeout_seconds", 900.0)
    assert of(patient).checkpoint_limit == Limit("watchdog.checkpoint_seconds", 60.0)


def test_idle_ranks_wait_without_a_limit_until_the_others_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = HashStore()
    idle, working = (
        Session(World(r, CPU, store, "fake", CPU), watchdog_of(r, tmp_path, store), LIMITS) for r in (1, 0)
    )
    naps: list[float] = []

    def sleep(_seconds: float) -> None:
        naps.append(idle.watchdog.host.left)
        assert len(naps) <= 3, "the others are done"
        if len(naps) == 3:
            working.release_others()

    monkeypatch.setattr(time, "sleep", sleep)
    idle.wait_for_others()
    assert naps == [math.inf] * 3
    assert idle.watchdog.host.phase == "idle"


def test_active_ranks_are_watched_on_all_that_they_wait_on_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transfers are not among it: whether they are begun follows from the program."""
    plan = small_plan()
    watched: list[Any] = []
    with fake_world(2, 5) as world:
        made = make_groups(world, plan.communicators, plan.placement.active)
        dog = watchdog_of(2, tmp_path, world.store)
        monkeypatch.setattr(dog, "watch", lambda *arguments: watched.extend(arguments))
        Session(world, dog, LIMITS).watch(plan, made)
    ranks, members, _calls, device = watched
    assert (ranks, device) == ((0, 1, 2, 3), CPU)
    assert members == {
        **{f"collective[{name}]": ranks for name, ranks in (("0-1", (0, 1)), ("2-3", (2, 3)), ("0-3", (0, 1, 2, 3)))},
        CONTROL: (0, 1, 2, 3),
        STORAGE: (0, 1, 2, 3),
    }


def reported(error: BaseException, dog: Watchdog, store: Store, folder: Path) -> Failure:
    return session._report(error, dog._rank, dog, FailureBoard(store), folder)


def test_only_who_fails_first_says_so(tmp_path: Path) -> None:
    store = HashStore()
    first, second = (watchdog_of(rank, tmp_path, store) for rank in (3, 1))
    stands = reported(ValueError("no number"), first, store, tmp_path / "first")
    assert (stands.rank, stands.teller, stands.message) == (3, 3, "no number")
    assert reported(ConfigError("something else"), second, store, tmp_path / "second") == stands
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
    board = FailureBoard(store)
    assert board.first() == stands
    assert FailureBoard(HashStore()).first() is None


def test_a_save_that_failed_elsewhere_is_told_of_the_rank_where_it_did(tmp_path: Path) -> None:
    """Numbers in such an error are those of the group, whose ranks here are 2, 5 and 7."""
    store = HashStore()
    dog = watchdog_of(2, tmp_path, store)
    dog.watch((2, 5, 7), {}, dict, CPU)
    failures: Any = {1: (OSError(28, "No space left on device"), traceback.StackSummary())}
    stands = reported(CheckpointException("save", failures), dog, store, tmp_path)
    assert (stands.rank, stands.teller) == (5, 2)
    assert json.loads((tmp_path / "error.json").read_text())["rank"] == 5


@pytest.mark.parametrize("told", [None, NAMED])
def test_who_loses_a_peer_tells_of_that_one_if_it_is_known(tmp_path: Path, told: Failure | None) -> None:
    store = HashStore()
    dog = watchdog_of(2, tmp_path, store)
    dog.told = told
    stands = reported(RuntimeError("Connection closed by peer"), dog, store, tmp_path)
    assert stands.rank == (2 if told is None else 1)
    assert FailureBoard(store).first() == stands
    if told is not None:
        assert stands == told


@pytest.mark.parametrize(("run_id", "heard"), [("counterpoint-17", True), ("none", False), (None, False)])
def test_our_launcher_hears_a_rank_and_others_do_not(
    run_id: str | None, heard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    if run_id is not None:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", run_id)
    assert is_heard() is heard
