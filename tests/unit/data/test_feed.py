"""Steps that are read ahead are what the reader reads, wherever that happens, and errors there are errors here."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from counterpoint.config.load import load_config
from counterpoint.data.corpus import Corpus
from counterpoint.data.feed import threads
from counterpoint.data.feed import workers as workers_module
from counterpoint.data.feed.open import open_feed
from counterpoint.data.feed.prefetch import Prefetcher
from counterpoint.data.feed.process import ProcessFeed
from counterpoint.data.feed.reader import Loaded, Reader, Wanted
from counterpoint.data.feed.shipping import load_cargo, unload_cargo
from counterpoint.data.feed.threads import Feed, Reading, ThreadFeed
from counterpoint.data.feed.workers import Workers
from counterpoint.data.order.order import Exclusion
from counterpoint.errors import DataError, RunError, StalledError
from counterpoint.plan.plan import Plan
from counterpoint.setup.run import prepare_run
from counterpoint.sources import storage
from counterpoint.sources.prepared.index import PAYLOAD_NAME
from counterpoint.sources.prepared.part import Encoded, Record
from tests.parity.layouts import TINY, named_config
from tests.unit.items import MakeIndex, MakePicture

STEPS = 4


@cache
def _setup() -> tuple[Plan, Corpus]:
    plan, _models, corpus = prepare_run(named_config("disjoint_1_to_1"))
    return plan, corpus


def _reader(rank: int) -> Reader:
    plan, corpus = _setup()
    return Reader(plan, rank, corpus.sources, torch.bfloat16)


@contextmanager
def _opened(reader: Reader, corpus: Corpus, reading: Reading) -> Iterator[Feed]:
    feed = open_feed(reader, corpus, reading)
    try:
        yield feed
    finally:
        feed.close()


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal in every part that they were made of, types and order included."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if is_dataclass(one):
        # What a value has computed of itself since stays behind when it is sent.
        made_of = [field.name for field in fields(one) if field.init]
        return type(one) is type(other) and all(same(getattr(one, name), getattr(other, name)) for name in made_of)
    return bool(one == other)


@pytest.mark.parametrize(
    "reading", [Reading(1, 1), Reading(3, 4), Reading(2, 3, timeout_seconds=60.0), Reading(2, 2, processes=2)]
)
def test_what_is_read_ahead_is_what_the_reader_reads(reading: Reading) -> None:
    plan, corpus = _setup()
    excluded = (Exclusion(0, corpus.order.draws(2)[0][1], 2),)
    for rank in plan.placement.active if not reading.processes else plan.placement.active[:1]:
        reader = _reader(rank)
        with _opened(reader, corpus, reading) as feed:
            futures = [feed.submit(step, excluded if step >= 2 else ()) for step in range(STEPS)]
            for step, future in enumerate(futures):
                expected = reader.read(plan.batch(step, corpus.without(excluded).packs(step)))
                assert same(future.result(60), expected)
    assert corpus.without(excluded).packs(2) != corpus.packs(2)


def test_tensors_travel_as_they_are() -> None:
    shared = torch.arange(6).reshape(2, 3).t()
    sent = (
        shared, [shared, torch.tensor(True)], torch.zeros(0, 4, dtype=torch.bfloat16), {"text": 7},
        torch.randn(5, 3).to(torch.bfloat16)[:, 1],
    )  # fmt: skip
    got = unload_cargo(load_cargo(sent))
    assert got[0] is got[1][0]
    assert all(
        same(a, b) for a, b in ((sent[0], got[0]), (sent[1][1], got[1][1]), (sent[2], got[2]), (sent[4], got[4]))
    )
    assert got[3] == {"text": 7}
    got[0].add_(1)
    assert torch.equal(got[1][0], shared + 1)


@pytest.mark.parametrize(
    "tensor", [torch.tensor(5).expand(1), torch.arange(6)[::6], torch.arange(6)[1:][::5], torch.arange(6)[:0][::3]]
)
def test_a_tensor_of_one_element_travels_whatever_its_stride(tensor: torch.Tensor) -> None:
    """Torch calls it contiguous even if it was expanded, or is the first of several."""
    assert same(unload_cargo(load_cargo(tensor)), tensor)


@dataclass(frozen=True)
class Faulty:
    """A source whose items are those of another, except that some raise."""

    source: Any
    bad: int
    error: Exception
    calls: list[int]

    def __len__(self) -> int:
        return len(self.source)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.source, name)

    def item(self, index: int, which: int) -> Any:
        if index == self.bad:
            self.calls.append(index)
            raise self.error
        return self.source.item(index, which)


def _with(corpus: Corpus, source: Any) -> Corpus:
    return replace(corpus, sources=(source,))


def _step_with_items(reader: Reader, corpus: Corpus) -> tuple[int, int]:
    """A step that has items for the rank, and the document of one of them."""
    for step in range(STEPS):
        wanted = list(reader.wanted(reader.plan.batch(step, corpus.packs(step))))
        if wanted:
            return step, wanted[0].document
    raise AssertionError("a step has pictures")


@pytest.mark.parametrize(
    ("processes", "error", "expected"),
    [(0, KeyError("column"), KeyError), (0, RunError("of ours"), RunError), (1, KeyError("column"), RunError)],
)
def test_what_is_raised_there_is_raised_here(processes: int, error: Exception, expected: type[Exception]) -> None:
    reader = _reader(0)
    step, index = _step_with_items(reader, _setup()[1])
    corpus = _with(_setup()[1], Faulty(_setup()[1].sources[0], index, error, []))
    with _opened(replace(reader, sources=corpus.sources), corpus, Reading(2, 2, processes=processes)) as feed:
        with pytest.raises(expected) as raised:
            feed.submit(step, ()).result(60)
        assert processes or raised.value is error
        assert not processes or "in item\n" in str(raised.value)


def test_a_passing_error_of_storage_is_tried_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    reader = _reader(0)
    step, index = _step_with_items(reader, _setup()[1])
    for number, tries in ((5, 3), (116, 3), (2, 1)):
        error = DataError("payload.bin cannot be read")
        error.__cause__ = OSError(number, os.strerror(number))
        calls: list[int] = []
        source = Faulty(_setup()[1].sources[0], index, error, calls)
        bad = replace(reader, sources=(source,)).read(reader.plan.batch(step, _setup()[1].packs(step))).bad
        items = len(bad)
        assert {payload.index for payload in bad} == {index}
        assert len(calls) == tries * items
    assert slept[:2] == [1.0, 2.0]


def test_an_error_that_passes_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    answers: list[OSError | int] = [OSError(116, "stale"), OSError(5, "input/output"), 7]

    def read() -> int:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    assert storage.persist(read) == 7


@pytest.fixture
def prepared(tmp_path: Path, make_index: MakeIndex, make_picture: MakePicture) -> tuple[Reader, Corpus, Path]:
    """A reader of a prepared folder with a picture in each of its documents."""
    item = Encoded(0, make_picture(16, 16), names=("shore.png",))
    folder = make_index([Record([1, 2, 3], [True] * 3, "train", "text", (item,)) for _ in range(8)])
    config = load_config(TINY, [f"data.train=[{{path: {folder}}}]", "training.global_batch_samples=2"])
    plan, _models, corpus = prepare_run(config)
    return Reader(plan, 0, corpus.sources, torch.float32), corpus, folder


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (threads, storage):
        monkeypatch.setattr(module, "PAUSES_SECONDS", (0.01, 0.02))
    monkeypatch.setattr(workers_module, "LONGEST_CLOSING_SECONDS", 0.1)


@contextmanager
def _hanging(file: Path) -> Iterator[None]:
    """A file that does not answer for a while: whoever opened it then waits for longer."""
    whole, pipe = file.with_suffix(".whole"), file.with_suffix(".pipe")
    file.rename(whole)
    os.mkfifo(file)
    try:
        yield
    finally:
        file.rename(pipe)
        whole.rename(file)


def _release(file: Path) -> None:
    """Whoever still waits for a file that hung gets its end."""
    with suppress(OSError):
        os.close(os.open(file.with_suffix(".pipe"), os.O_WRONLY | os.O_NONBLOCK))


@pytest.mark.usefixtures("short_pauses")
def test_stalled_storage_ends_the_run_with_the_file_and_the_rank(prepared: tuple[Reader, Corpus, Path]) -> None:
    reader, corpus, folder = prepared
    with _hanging(folder / PAYLOAD_NAME), _opened(reader, corpus, Reading(2, 2, timeout_seconds=0.2)) as feed:
        begin = time.monotonic()
        with pytest.raises(
            StalledError, match=r"image shore\.png.*, item 0: rank 0 tried to read it 3 times"
        ) as raised:
            feed.submit(0, ()).result(30)
        assert 0.6 <= time.monotonic() - begin < 10
    assert raised.value.exit_code == DataError.exit_code


@pytest.mark.usefixtures("short_pauses")
def test_storage_that_answers_again_costs_a_repetition_only(prepared: tuple[Reader, Corpus, Path]) -> None:
    reader, corpus, folder = prepared
    expected = [reader.read(reader.plan.batch(step, corpus.packs(step))) for step in range(3)]
    with _opened(reader, corpus, Reading(2, 3, timeout_seconds=0.5)) as feed:
        with _hanging(folder / PAYLOAD_NAME):
            futures = [feed.submit(step, ()) for step in range(3)]
            time.sleep(0.6)
        assert [same(future.result(30), one) for future, one in zip(futures, expected, strict=True)] == [True] * 3
        assert not any(future.result().bad for future in futures)
        _release(folder / PAYLOAD_NAME)


def test_a_slow_item_holds_up_its_own_step_only() -> None:
    _plan, corpus = _setup()
    reader = _reader(0)
    step, index = _step_with_items(reader, corpus)
    go_on = threading.Event()

    class Slow(Reader):
        def load(self, wanted: Wanted) -> Loaded:
            if wanted.document == index:
                assert go_on.wait(30)
            return super().load(wanted)

    slow = Slow(reader.plan, 0, corpus.sources, torch.bfloat16)
    feed = ThreadFeed(slow, corpus, Reading(workers=2, steps_ahead=6))
    futures = [feed.submit(number, ()) for number in range(step, step + 6)]
    for later in futures[1:]:
        later.result(30)
    assert not futures[0].done()
    go_on.set()
    assert same(futures[0].result(30), reader.read(reader.plan.batch(step, corpus.packs(step))))
    feed.close()


def test_closing_does_not_wait_for_what_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "LONGEST_CLOSING_SECONDS", 0.1)
    begun, hang = threading.Event(), threading.Event()
    workers = Workers(1, "test")

    def wait() -> bool:
        begun.set()
        return hang.wait()

    hanging, never = workers.submit(wait), workers.submit(int)
    assert begun.wait(5)
    begin = time.monotonic()
    workers.close()
    assert time.monotonic() - begin < 2
    with pytest.raises(CancelledError):
        never.result(1)
    hang.set()
    assert hanging.result(5)


def test_the_process_ends_with_its_rank_and_a_rank_notices_its_end() -> None:
    _plan, corpus = _setup()
    feed = ProcessFeed(_reader(0), corpus, Reading(1, 2))
    feed.submit(0, ()).result(60)
    child = feed._process.pid
    assert child is not None
    os.kill(child, signal.SIGTERM)  # As a scheduler sends to a whole job: the rank decides.
    feed.submit(1, ()).result(60)
    os.kill(child, signal.SIGSTOP)
    waiting = feed.submit(2, ())
    os.kill(child, signal.SIGKILL)
    with pytest.raises(RunError, match="process that reads data ended with code -9"):
        waiting.result(60)
    with pytest.raises(RunError, match="ended with code -9"):
        feed.submit(3, ()).result(60)
    feed.close()


@pytest.mark.more
def test_the_process_does_not_outlive_a_killed_rank(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    rank = multiprocessing.get_context("spawn").Process(target=_rank, args=(told,))
    rank.start()
    while not told.exists() or not told.read_text():
        assert rank.is_alive()
        time.sleep(0.05)
    child = int(told.read_text())
    rank.kill()
    rank.join()
    end = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < end
        time.sleep(0.05)


def _rank(told: Path) -> None:
    feed = ProcessFeed(_reader(0), _setup()[1], Reading(1, 2))
    feed.submit(0, ()).result(60)
    told.write_text(str(feed._process.pid))
    time.sleep(60)


def test_steps_come_in_their_order_and_no_more_are_read_than_wanted() -> None:
    asked: list[int] = []
    workers = Workers(3, "test")

    def read(step: int) -> Any:
        asked.append(step)
        return workers.submit(_later, step).future

    steps = Prefetcher(read, 2, 9, 3, workers.close)
    got: list[Any] = []
    for _ in range(7):
        got.append(steps.next())
        assert asked[-1] == min(got[-1] + 3, 8)
    steps.close()
    assert got == asked == list(range(2, 9))


def _later(step: int) -> int:
    time.sleep(0.01 * (step % 3))
    return step
