"""Steps that are read ahead are what the reader reads, wherever that happens, and errors there are errors here."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from counterpoint.data.corpus import Corpus
from counterpoint.data.feed import threads
from counterpoint.data.feed.open import open_feed
from counterpoint.data.feed.prefetch import Prefetcher
from counterpoint.data.feed.process import ProcessFeed
from counterpoint.data.feed.reader import Reader
from counterpoint.data.feed.shipping import load_cargo, unload_cargo
from counterpoint.data.feed.threads import Feed, Reading, ThreadFeed
from counterpoint.data.feed.workers import Workers
from counterpoint.data.order.order import Exclusion
from counterpoint.errors import DataError, RunError, StalledError
from counterpoint.plan.plan import Plan
from counterpoint.setup.run import prepare_run
from counterpoint.sources import storage
from tests.parity.layouts import named_config

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


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if is_dataclass(one):
        return type(one) is type(other) and all(_same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return bool(one == other)


@pytest.mark.parametrize(
    "reading", [Reading(1, 1), Reading(3, 4), Reading(2, 3, timeout_seconds=60.0), Reading(2, 2, has_process=True)]
)
def test_what_is_read_ahead_is_what_the_reader_reads(reading: Reading) -> None:
    plan, corpus = _setup()
    excluded = (Exclusion(0, corpus.order.draws(2)[0][1], 2),)
    for rank in plan.placement.active if not reading.has_process else plan.placement.active[:1]:
        reader = _reader(rank)
        with _opened(reader, corpus, reading) as feed:
            futures = [feed.submit(step, excluded if step >= 2 else ()) for step in range(STEPS)]
            for step, future in enumerate(futures):
                expected = reader.read(plan.batch(step, corpus.without(excluded).packs(step)))
                assert _same(future.result(60), expected)
    assert corpus.without(excluded).packs(2) != corpus.packs(2)


def test_tensors_travel_as_they_are() -> None:
    shared = torch.arange(6).reshape(2, 3).t()
    sent = (
        shared, [shared, torch.tensor(True)], torch.zeros(0, 4, dtype=torch.bfloat16), {"text": 7},
        torch.randn(5, 3).to(torch.bfloat16)[:, 1],
    )  # fmt: skip
    got = unload_cargo(load_cargo(sent))
    assert got[0] is got[1][0]
    assert all(_same(a, b) for a, b in ((sent[0], got[0]), (sent[1][1], got[1][1]), (sent[2], got[2]), (sent[4], got[4])))
    assert got[3] == {"text": 7}
    got[0].add_(1)
    assert torch.equal(got[1][0], shared + 1)


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
