from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.data.order.order import Exclusion, Order, SequentialOrder
from counterpoint.data.order.packing import pack_documents
from counterpoint.errors import DataError
from counterpoint.plan.samples import Document
from counterpoint.sources.synthetic.source import SyntheticSource
from tests.recipes import recipe_of, uniform

orders = st.integers(1, 3).flatmap(
    lambda sources: st.builds(
        Order,
        seed=st.integers(0, 2**32),
        sizes=st.tuples(*[st.integers(1, 60)] * sources),
        weights=st.tuples(*[st.integers(1, 5)] * sources),
        window=st.integers(1, 17),
    )
)


@settings(deadline=None, max_examples=40)
@given(order=orders)
def test_every_epoch_holds_every_document_once(order: Order) -> None:
    draws = [draw for step in range(30) for draw in order.draws(step)]
    for source, size in enumerate(order.sizes):
        indices = [index for s, index in draws if s == source]
        for start in range(0, len(indices) - size + 1, size):
            assert sorted(indices[start : start + size]) == list(range(size))


@settings(deadline=None, max_examples=40)
@given(order=orders, step=st.integers(0, 10**9))
def test_a_step_needs_no_history_and_holds_its_window(order: Order, step: int) -> None:
    fresh = Order(order.seed, order.sizes, order.weights, order.window)
    order.draws(0)
    assert order.draws(step) == fresh.draws(step)
    assert len(order.draws(step)) == order.window


@settings(deadline=None, max_examples=40)
@given(order=orders, step=st.integers(0, 15), data=st.data())
def test_an_excluded_document_is_gone_from_its_step_on_and_nothing_else_moves(
    order: Order, step: int, data: st.DataObject
) -> None:
    source, index = data.draw(st.sampled_from(order.draws(step)))
    from_step = data.draw(st.integers(0, 20))
    excluding = Order(
        order.seed,
        order.sizes,
        order.weights,
        order.window,
        None,
        frozenset({Exclusion(source, index, from_step)}),
    )
    for n in range(21):
        expected = [d for d in order.draws(n) if n < from_step or d != (source, index)]
        assert list(excluding.draws(n)) == expected


def test_seed_zero_is_a_seed_and_seeds_differ() -> None:
    first = [Order(seed, (1000,), (1,), 100).draws(0) for seed in (0, 1, 2)]
    assert len(set(first)) == 3


def test_epochs_and_sources_have_orders_of_their_own() -> None:
    order = Order(0, (100, 100), (1, 1), 200)
    of = {(s, epoch): [i for source, i in order.draws(epoch) if source == s] for s in (0, 1) for epoch in (0, 1)}
    assert len({tuple(indices) for indices in of.values()}) == 4


def test_a_document_that_is_excluded_twice_is_gone_from_the_earlier_step_on() -> None:
    for steps in ((2, 5), (5, 2)):
        order = Order(0, (3,), (1,), 3, exclusions=[Exclusion(0, 1, step) for step in steps])
        assert [(0, 1) in order.draws(step) for step in range(7)] == [True, True, *[False] * 5]


@pytest.mark.parametrize(
    ("sizes", "weights", "window"),
    [((), (), 1), ((3,), (1, 1), 1), ((0,), (1,), 1), ((3,), (0,), 1), ((3,), (1,), 0)],
)
def test_impossible_orders_are_refused(sizes: tuple[int, ...], weights: tuple[int, ...], window: int) -> None:
    with pytest.raises(DataError, match="data order"):
        Order(0, sizes, weights, window)


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=4).map(tuple), window=st.integers(1, 7))
def test_evaluation_reads_everything_once_in_order_with_a_ragged_end(sizes: tuple[int, ...], window: int) -> None:
    order = SequentialOrder(sizes, window)
    steps = [order.draws(step) for step in range(order.steps)]
    assert [d for step in steps for d in step] == [(s, i) for s, size in enumerate(sizes) for i in range(size)]
    assert all(len(step) == window for step in steps[:-1])
    assert all(steps)


@settings(deadline=None, max_examples=40)
@given(lengths=st.lists(st.integers(1, 100), max_size=60))
def test_packs_keep_the_budget_lose_nothing_and_waste_little(lengths: list[int]) -> None:
    documents = [Document(0, index, tokens, 0) for index, tokens in enumerate(lengths)]
    packs = pack_documents(documents, 100)
    assert all(0 < sum(d.tokens for d in pack) <= 100 for pack in packs)
    assert Counter(d for pack in packs for d in pack) == Counter(documents)
    assert [pack[0].index for pack in packs] == sorted(pack[0].index for pack in packs)
    assert all([d.index for d in pack] == sorted(d.index for d in pack) for pack in packs)
    assert len(packs) <= 11 * -(-sum(lengths) // 100) / 9 + 1 or max(lengths) > 33


@settings(deadline=None)
@given(lengths=st.lists(st.integers(0, 100), max_size=60), every=st.integers(1, 7))
def test_packs_are_those_of_first_fit(lengths: list[int], every: int) -> None:
    """Tried out pack by pack, the longest document first; some documents are alone."""
    documents = [Document(0, index, tokens, 0) for index, tokens in enumerate(lengths)]
    free: list[int] = []
    expected: list[list[int]] = []
    for document in sorted(documents, key=lambda document: (-document.tokens, document.index)):
        is_alone = document.index % every == 0 and every > 1
        fitting = [] if is_alone else [place for place, room in enumerate(free) if room >= document.tokens]
        if not fitting:
            free.append(100)
            expected.append([])
        place = fitting[0] if fitting else len(free) - 1
        free[place] = 0 if is_alone else free[place] - document.tokens
        expected[place].append(document.index)
    packs = pack_documents(documents, 100, lambda document: document.index % every == 0 and every > 1)
    assert [[document.index for document in pack] for pack in packs] == sorted(map(sorted, expected))


def test_a_pack_is_filled_to_the_last_row() -> None:
    packs = pack_documents([Document(0, index, tokens, 0) for index, tokens in enumerate((40, 60, 100, 30, 70))], 100)
    assert [[document.tokens for document in pack] for pack in packs] == [[40, 60], [100], [30, 70]]


def test_a_document_over_the_budget_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"source 2, document 7: 11 tokens exceed the pack budget of 10"):
        pack_documents([Document(2, 7, 11, 0)], 10)


def test_packs_of_a_step_hold_the_documents_drawn() -> None:
    source = SyntheticSource(recipe_of(50, 0, uniform(1, 40)), 0, {}, 64, 100)
    packed, single = Order(3, (50,), (1,), 16, 64), Order(3, (50,), (1,), 16)
    alone = single.packs(5, [source])
    assert [[(d.source, d.index) for d in pack] for pack in alone] == [[draw] for draw in single.draws(5)]
    packs = packed.packs(5, [source])
    assert len(packs) < 16
    assert Counter(d for pack in packs for d in pack) == Counter(d for pack in alone for d in pack)
    assert packs == Order(3, (50,), (1,), 16, 64).packs(5, [source])
