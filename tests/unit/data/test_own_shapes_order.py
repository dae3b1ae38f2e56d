"""Properties of the order of data of prepared chats, films and speech: it follows from the seed and the data alone."""

import pickle
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.config.schema import Config
from counterpoint.data.corpus import Corpus
from counterpoint.data.feed.open import open_feed
from counterpoint.data.feed.reader import Reader
from counterpoint.data.feed.threads import Reading
from counterpoint.plan.samples import Pack
from counterpoint.setup.data import identity_of
from counterpoint.setup.run import Setup, prepare_run
from tests.own_shapes import BUDGET, CHATS, CLIPS, SPEECHES, TAKE, own_config, prepare_own_shapes
from tests.parity.layouts import ranks
from tests.parity.speech import trio
from tests.unit.data.test_feed import same

TAKEN = (CHATS, CLIPS, TAKE)
LAYOUTS: tuple[dict[str, Any], ...] = (
    trio(1, {"ranks": [0]}, {"ranks": [0]}),
    trio(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "tp": 2}),
    trio(8, {"ranks": ranks(0, 8), "cp": 2}, {"ranks": ranks(0, 8), "dp_replicate": 2}, schedule__microbatches=1),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    prepare_own_shapes(folder)
    return folder


@cache
def _setup(folder: Path, layout: int) -> tuple[Config, Setup]:
    """What each process of a layout opens."""
    config = own_config(folder, LAYOUTS[layout], data__workers=1 + layout)
    return config, prepare_run(config)


def _drawn(steps: list[tuple[Pack, ...]]) -> list[tuple[int, int]]:
    return [(document.source, document.index) for packs in steps for pack in packs for document in pack]


def _changed(corpus: Corpus, seed: int, window: int, window_steps: int, epochs: int | None) -> Corpus:
    """The same sources in another order."""
    weights = corpus.order.weights if epochs is None else TAKEN
    order = replace(corpus.order, seed=seed, window=window, window_steps=window_steps, epochs=epochs, weights=weights)
    return replace(corpus, order=order)


orders = st.tuples(
    st.integers(0, 2**32), st.integers(1, 24), st.integers(1, 5), st.none() | st.integers(1, 2)
)  # seed, documents a step, steps of a window, epochs


@settings(deadline=None, max_examples=40)
@given(drawn=orders, data=st.data())
def test_epochs_packs_and_plans(folder: Path, drawn: tuple[int, int, int, int | None], data: st.DataObject) -> None:
    window_steps, epochs = drawn[2:]
    _config, (plan, _models, opened) = _setup(folder, data.draw(st.integers(0, 2)))
    corpus = _changed(opened, *drawn)
    steps = corpus.order.steps or window_steps * -(-12 // window_steps)
    packs = [corpus.packs(step) for step in range(steps)]

    # Every sample of an epoch once.
    counted = Counter(_drawn(packs))
    draws = [draw for step in range(steps) for draw in corpus.order.draws(step)]
    assert counted == Counter(draws), "windows hold what is drawn"
    for source, taken in enumerate(TAKEN):
        own = [index for of, index in draws if of == source]
        chosen = [own[first : first + taken] for first in range(0, len(own), taken)]
        assert all(len(set(epoch)) == len(epoch) for epoch in chosen)
        assert len({frozenset(epoch) for epoch in chosen if len(epoch) == taken}) <= 1, "the same ones in each epoch"
    if epochs is not None:
        assert set(counted.values()) == {epochs}
        assert tuple(Counter(source for source, _index in counted)[source] for source in range(3)) == TAKEN

    # Packs within the budget.
    for pack in (pack for step in packs for pack in step):
        assert sum(document.tokens for document in pack) <= BUDGET
        assert all(document.tokens <= BUDGET - 8 for document in pack if document.source == 1)

    # The same on every rank, which opens the files for itself, on every layout, and from any step on.
    first = data.draw(st.integers(0, steps - 1))
    _other_config, (other_plan, _other_models, other) = _setup(folder, data.draw(st.integers(0, 2)))
    again = _changed(pickle.loads(pickle.dumps(other)) if data.draw(st.booleans()) else other, *drawn)
    assert [again.packs(step) for step in range(first, steps)] == packs[first:]
    if plan is other_plan:
        assert plan.batch(first, again.packs(first)).digest() == plan.batch(first, packs[first]).digest()
    assert corpus.packs(first) == packs[first]


def test_a_checkpoint_of_one_layout_is_one_of_all(folder: Path) -> None:
    """World, layout and workers are nothing by which a resumed run's data differ."""
    identities = [identity_of(_setup(folder, layout)[0]) for layout in range(3)]
    assert identities == identities[:1] * 3
    assert [source.index.manifest.documents for source in _sources(folder)] == [CHATS, CLIPS, SPEECHES]


@pytest.mark.parametrize("reading", [Reading(1, 1), Reading(3, 3), Reading(2, 2, processes=1)])
def test_workers_and_processes_read_the_same(folder: Path, reading: Reading) -> None:
    """Also from a step inside of a window on, by a process that opens parquet, films and FLAC for itself."""
    _config, (plan, _models, corpus) = _setup(folder, 1)
    reader = Reader(plan, 0, corpus.sources, torch.float64)
    feed = open_feed(reader, corpus, reading)
    try:
        for step, future in [(step, feed.submit(step, ())) for step in range(3, 6)]:
            expected = reader.read(plan.batch(step, corpus.packs(step)))
            assert not expected.bad
            assert expected.batches
            assert same(future.result(60), expected)
    finally:
        feed.close()


def _sources(folder: Path) -> tuple[Any, ...]:
    return _setup(folder, 0)[1].corpus.sources
