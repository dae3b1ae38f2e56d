"""Documents that could not be read are left out from steps that nobody has read yet, and stay out after a resume."""

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from counterpoint.config.schema import Config
from counterpoint.data.feed.reader import BadPayload
from counterpoint.data.order.order import Draw, Exclusion, Order
from counterpoint.execute.tree import ALONE
from counterpoint.execute.waits import WaitClock
from counterpoint.setup.rank import trainer_of
from counterpoint.train import loop, run_data
from counterpoint.train.active_rank import ActiveRank
from counterpoint.train.state.checkpoint import TrainingState
from counterpoint.train.state.saving import Resumption
from tests.parity.layouts import named_config, override

STEPS, WINDOW = 12, 2
ORDER = Order(seed=0, sizes=(5,), weights=(1,), window=WINDOW)
BAD = 3


class AtOnce:
    """A feed that has read whatever it is asked for: what may be read ahead is read ahead."""

    def __init__(self, reader: Any, run: "Recorded", _reading: Any) -> None:
        self._reader, self._run = reader, run

    def submit(self, step: int, exclusions: tuple[Exclusion, ...]) -> Future[Any]:
        packs = replace(self._run.order, exclusions=exclusions).draws(step)
        done: Future[Any] = Future()
        done.set_result(self._reader.read(self._run.batch(step, packs)))
        return done

    def close(self) -> None:
        pass


@dataclass
class Recorded:
    """A run without ranks: the documents of every step as they were read, and what was saved."""

    order: Order
    ahead: int
    read: dict[int, tuple[Draw, ...]] = field(default_factory=dict)
    saved: list[tuple[Exclusion, ...]] = field(default_factory=list)
    saved_after: list[int] = field(default_factory=list)
    newest: list[int] = field(default_factory=list)
    """The last step that had been read whenever a document turned out to be bad."""

    @property
    def evaluation(self) -> tuple[()]:
        return ()

    def without(self, exclusions: Iterable[Exclusion]) -> "Recorded":
        return replace(self, order=replace(self.order, exclusions=(*self.order.exclusions, *exclusions)))

    def batch(self, step: int, packs: tuple[Draw, ...]) -> Any:
        self.read[step] = packs
        return SimpleNamespace(step=step, packs=packs, digest=lambda: 7)

    def read_batch(self, batch: Any) -> Any:
        bad = [BadPayload(source, index, "torn") for source, index in batch.packs if index == BAD]
        return SimpleNamespace(batch=batch, bad=bad)

    def launch(self, inputs: Any, _ahead: Any, *, wants_stop: bool) -> Any:
        assert not wants_stop
        return SimpleNamespace(outcome=lambda: SimpleNamespace(bad=len(inputs.bad), stop=False, broken=()))

    def bad(self, _step: int, _payloads: Any) -> None:
        self.newest.append(max(self.read))

    def save(self, _engine: Any, step: int, exclusions: tuple[Exclusion, ...]) -> None:
        self.saved.append(exclusions)
        self.saved_after.append(step)


def _train(
    monkeypatch: pytest.MonkeyPatch, config: Config, ahead: int, exclusions: tuple[Exclusion, ...] = (), first: int = 0
) -> Recorded:
    run = Recorded(ORDER, ahead)
    state = TrainingState(
        seed=0,
        data_step=first,
        optimizer_step=first,
        exclusions=tuple((e.source, e.index, e.from_step) for e in exclusions),
    )
    monkeypatch.setattr(run_data, "open_feed", AtOnce)
    monkeypatch.setattr(loop, "Timelines", lambda *_arguments: SimpleNamespace(add=lambda *_step: None))
    idle: Any = SimpleNamespace(
        resume=lambda *_arguments: Resumption(state), save=run.save, poll=lambda: None, finish=lambda: None,
        take_published=list, leave_out=lambda _seconds: None,
        step=lambda *_arguments: None, data=lambda *_arguments: None, bad=run.bad, resumed=lambda _resumption: None,
        begin=lambda: None, end=lambda: (), arrived=lambda _action: None, device="cpu",
        watchdog=SimpleNamespace(enter=lambda *_arguments, **_named: None),
        checkpoint_limit=None, startup_limit=None, world=SimpleNamespace(rank=0), control=ALONE,
    )  # fmt: skip
    engine: Any = SimpleNamespace(
        compiled=None,
        plan=SimpleNamespace(
            batch=run.batch,
            stages=SimpleNamespace(ahead={"vision": ahead}),
            placement=SimpleNamespace(active=(0,)),
            schedule=None,
        ),
        waits=WaitClock(),
        launch_step=run.launch,
        run_ahead=lambda _inputs: None,
        tell_arrivals=lambda _arrived: None,
    )
    reader: Any = SimpleNamespace(read=run.read_batch)
    corpus: Any = run
    rank = ActiveRank(Path(config.run.dir), idle, idle, engine, reader, idle, idle)
    trainer_of(config, rank, corpus, idle).run()
    return run


@pytest.fixture(scope="module")
def config() -> Config:
    return override(named_config("disjoint_1_to_1"), {"training.steps": STEPS, "checkpoint.every_steps": 1})


@pytest.mark.parametrize("ahead", [0, 2])
def test_what_was_read_is_what_a_resumed_run_would_read(
    monkeypatch: pytest.MonkeyPatch, config: Config, ahead: int
) -> None:
    """Each step as a function of what was saved: none that was read holds other documents once some are left out."""
    # Before a checkpoint a step is read at once, and otherwise while the next one is under way.
    run = _train(monkeypatch, override(config, {"checkpoint.every_steps": None}), ahead)
    assert list(run.read) == list(range(STEPS))
    last = replace(ORDER, exclusions=run.saved[-1])
    assert any(BAD in {index for _source, index in draws} for draws in run.read.values())
    assert {step: last.draws(step) for step in run.read} == run.read
    starts = [exclusion.from_step for exclusion in run.saved[-1]]
    assert [newest < start for newest, start in zip(run.newest, starts, strict=True)] == [True] * len(starts)
    assert starts
    assert all(BAD not in {index for _source, index in run.read[step]} for step in range(min(starts), STEPS))
    assert min(starts) < STEPS - 2


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_resumed_run_leaves_out_what_was_left_out(
    monkeypatch: pytest.MonkeyPatch, config: Config, ahead: int
) -> None:
    whole = _train(monkeypatch, config, ahead)
    for first in range(1, STEPS):
        resumed = _train(monkeypatch, config, ahead, exclusions=whole.saved[first - 1], first=first)
        assert resumed.read == {step: draws for step, draws in whole.read.items() if step >= first}
        assert set(resumed.saved[-1]) == set(whole.saved[-1])


@pytest.mark.parametrize(("every", "expected"), [(5, [5, 10, 12]), (4, [4, 8, 12]), (None, [12])])
def test_the_last_step_is_saved_whether_it_is_due_or_not(
    monkeypatch: pytest.MonkeyPatch, config: Config, every: int | None, expected: list[int]
) -> None:
    assert _train(monkeypatch, override(config, {"checkpoint.every_steps": every}), 0).saved_after == expected
