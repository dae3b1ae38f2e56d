"""Properties of the order of data: what an epoch holds, what a pack holds, and that nothing else matters."""

from collections import Counter
from dataclasses import replace
from functools import cache
from math import ceil, gcd

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.data.order.blend import whole_epochs
from counterpoint.data.order.order import Draw, Exclusion, Order
from counterpoint.data.order.packing import pack_documents
from counterpoint.data.order.windows import document_cost, pack_window
from counterpoint.errors import DataError
from counterpoint.plan.samples import Document, Item, Pack
from counterpoint.setup.run import prepare_run
from counterpoint.sources.source import Source
from counterpoint.sources.synthetic.source import SyntheticSource
from tests.parity.layouts import named_config
from tests.recipes import recipe_of, uniform

BUDGET = 64
STEPS = 12


@cache
def _sources(sizes: tuple[int, ...]) -> tuple[Source, ...]:
    recipes = [recipe_of(size, number, uniform(1, 40)) for number, size in enumerate(sizes)]
    return tuple(SyntheticSource(recipe, number, {}, BUDGET, 100) for number, recipe in enumerate(recipes))


@st.composite
def orders(draw: st.DrawFn) -> Order:
    sizes = tuple(draw(st.lists(st.integers(1, 40), min_size=1, max_size=3)))
    counts = tuple(draw(st.integers(1, size)) for size in sizes)
    epochs = draw(st.none() | st.integers(1, 3))
    weights = tuple(draw(st.integers(1, 5)) for _ in sizes) if epochs is None else whole_epochs(counts)
    alone = frozenset(draw(st.sets(st.integers(0, len(sizes) - 1))))
    return Order(
        draw(st.integers(0, 2**32)), sizes, weights, draw(st.integers(1, 9)), draw(st.none() | st.just(BUDGET)),
        window_steps=draw(st.integers(1, 5)), epochs=epochs, counts=counts, alone=alone,
    )  # fmt: skip


def _steps(order: Order, steps: int) -> list[tuple[Pack, ...]]:
    return [order.packs(step, _sources(order.sizes)) for step in range(steps)]


def _drawn(packs: tuple[Pack, ...]) -> list[Draw]:
    return [(document.source, document.index) for pack in packs for document in pack]


@settings(deadline=None, max_examples=60)
@given(order=orders())
def test_windows_hold_what_is_drawn_in_packs_within_the_budget(order: Order) -> None:
    steps = order.steps or STEPS // order.window_steps * order.window_steps
    packs = _steps(order, steps)
    for first in range(0, steps, order.window_steps):
        window = range(first, min(first + order.window_steps, steps))
        assert Counter(d for step in window for d in _drawn(packs[step])) == Counter(
            d for step in window for d in order.draws(step)
        )
    for pack in (pack for step in packs for pack in step):
        assert pack
        assert sum(document.tokens for document in pack) <= BUDGET
        assert len(pack) == 1 or (order.sequence_tokens and not order.alone & {d.source for d in pack})


@settings(deadline=None, max_examples=60)
@given(order=orders(), data=st.data())
def test_a_resumed_order_is_the_same_from_any_step(order: Order, data: st.DataObject) -> None:
    steps = order.steps or STEPS
    whole, sources = _steps(order, steps), _sources(order.sizes)
    first = data.draw(st.integers(0, steps - 1))
    fresh = replace(order)
    assert [fresh.packs(step, sources) for step in range(first, steps)] == whole[first:]
    assert order.packs(first, sources) == whole[first]


@settings(deadline=None, max_examples=60)
@given(order=orders(), data=st.data())
def test_an_excluded_document_is_gone_from_its_step_on_and_no_earlier_step_changes(
    order: Order, data: st.DataObject
) -> None:
    steps = order.steps or STEPS
    whole = _steps(order, steps)
    source, index = data.draw(st.sampled_from([d for packs in whole for d in _drawn(packs)]))
    from_step = data.draw(st.integers(0, steps))
    excluding = _steps(replace(order, exclusions=(Exclusion(source, index, from_step),)), steps)
    assert excluding[:from_step] == whole[:from_step]
    gone, window = (source, index), order.window_steps
    assert all(gone not in _drawn(packs) for packs in excluding[from_step:])
    # Within the window in which it is excluded nothing else moves.
    for step in range(from_step, min(steps, ceil(from_step / window) * window)):
        assert _drawn(excluding[step]) == [d for d in _drawn(whole[step]) if d != gone]
    kept = Counter(d for packs in whole for d in _drawn(packs) if d != gone)
    assert Counter(d for packs in excluding for d in _drawn(packs) if d != gone) >= kept - Counter(
        d for packs in whole[steps - steps % window :] for d in _drawn(packs)
    )


@settings(deadline=None, max_examples=60)
@given(order=orders().filter(lambda order: order.epochs is not None))
def test_whole_epochs_hold_every_document_that_is_taken_so_many_times(order: Order) -> None:
    assert order.steps is not None
    packs = _steps(order, order.steps)
    counted = Counter(d for step in packs for d in _drawn(step))
    assert set(counted.values()) == {order.epochs}
    assert Counter(source for source, _index in counted) == Counter(dict(enumerate(order.counts)))
    assert all(packs)
    assert order.packs(order.steps, _sources(order.sizes)) == ()
    # One seed or another takes the same documents.
    other = replace(order, seed=order.seed + 1)
    assert set(counted) == {d for step in _steps(other, order.steps) for d in _drawn(step)}


def test_a_subset_is_no_mere_beginning_and_needs_no_seed() -> None:
    order = Order(0, (1000,), (1,), 100, counts=(100,))
    taken = {index for _source, index in order.draws(0)}
    assert len(taken) == 100
    assert max(taken) > 900
    assert taken == {index for _source, index in replace(order, seed=7).draws(5)}


lengths = st.lists(st.integers(1, 100), min_size=1, max_size=80)


@settings(deadline=None, max_examples=100)
@given(lengths=lengths, steps=st.integers(1, 8))
def test_steps_of_a_window_have_as_many_packs_and_waste_little(lengths: list[int], steps: int) -> None:
    documents = [Document(0, index, tokens, 0) for index, tokens in enumerate(lengths)]
    dealt = pack_window(documents, steps, 100, lambda _document: False)
    counts = [len(packs) for packs in dealt]
    assert max(counts) - min(counts) <= (len(documents) % steps != 0 or len(documents) < sum(counts) + steps)
    assert Counter(d for packs in dealt for pack in packs for d in pack) == Counter(documents)
    fewest = len(pack_documents(documents, 100))
    assert sum(counts) <= max(1.25 * fewest, fewest + 1) + steps - 1
    for packs in dealt:
        assert [pack[0].index for pack in packs] == sorted(pack[0].index for pack in packs)
        assert all([d.index for d in pack] == sorted(d.index for d in pack) for pack in packs)


def test_steps_of_a_window_cost_about_the_same() -> None:
    documents = [Document(0, n, 10 + n * 37 % 500, 1, (Item("vision", 0, 400, 100),) * (n % 3)) for n in range(400)]
    alone = [pack_documents(documents[first : first + 50], 4096) for first in range(0, 400, 50)]
    together = pack_window(documents, 8, 4096, lambda _document: False)

    def imbalance(steps: list[tuple[Pack, ...]]) -> float:
        costs = [sum(document_cost(d) for pack in packs for d in pack) for packs in steps]
        return max(costs) * len(costs) / sum(costs)

    assert imbalance(list(together)) < 1.02 < imbalance(list(alone))
    assert len({len(packs) for packs in together}) == 1


def test_a_document_costs_its_pairs_rows_and_items() -> None:
    assert document_cost(Document(0, 0, 3, 0)) == 3 * 16_384 + 6
    assert document_cost(Document(0, 0, 3, 0, (Item("v", 0, 8, 2),))) == 3 * 16_384 + 6 + 8 * 1_024 + 4


def test_documents_that_cost_little_do_not_fill_a_pack_over_the_budget() -> None:
    """Beside a picture that costs as much as all of them, text goes where it costs least until there is no room."""
    picture = Document(0, 0, 10, 0, (Item("v", 0, 4096, 8),))
    documents = [picture, *(Document(0, number, 10, 0) for number in range(1, 31))]
    (packs,) = pack_window(documents, 1, 200, lambda _document: False)
    assert [sum(document.tokens for document in pack) for pack in packs] == [110, 200]
    assert sorted(_drawn(packs)) == [(0, number) for number in range(31)]


def test_a_document_over_the_budget_is_refused_in_a_window() -> None:
    with pytest.raises(DataError, match=r"source 2, document 7: 11 tokens exceed the pack budget of 10"):
        pack_window([Document(2, 7, 11, 0)], 3, 10, lambda _document: False)


def test_epochs_of_several_sources_end_together_in_the_fewest_turns() -> None:
    assert whole_epochs((60, 40, 20)) == (3, 2, 1)
    assert gcd(*whole_epochs((7, 9))) == 1
    with pytest.raises(DataError, match="round their numbers with `take`"):
        whole_epochs((20_000_001, 2))


@pytest.mark.parametrize("name", ["one_rank", "disjoint_1_to_1", "dp2_to_tp2"])
def test_every_document_has_a_place_in_one_lane_of_every_layout(name: str) -> None:
    plan, _models, corpus = prepare_run(named_config(name))
    order = replace(corpus.order, window_steps=3, sequence_tokens=48, epochs=2)
    for step in range(order.steps or 0):
        packs = order.packs(step, corpus.sources)
        batch = plan.batch(step, packs)
        placed = Counter(span.document for cells in batch.shares[plan.sink] for cell in cells for span in cell.spans)
        assert placed == Counter(range(len(batch.documents)))
        assert [(d.source, d.index) for d in batch.documents] == _drawn(packs)
        assert batch.digest() == plan.batch(step, replace(order).packs(step, corpus.sources)).digest()


@pytest.mark.more
@settings(deadline=None, max_examples=2000)
@given(order=orders(), data=st.data())
def test_many_orders_keep_all_of_this(order: Order, data: st.DataObject) -> None:
    test_windows_hold_what_is_drawn_in_packs_within_the_budget.hypothesis.inner_test(order)  # type: ignore[attr-defined]
    test_a_resumed_order_is_the_same_from_any_step.hypothesis.inner_test(order, data)  # type: ignore[attr-defined]
