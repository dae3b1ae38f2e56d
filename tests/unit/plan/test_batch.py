"""Batch plans: every document and item once, whole rows, and the same for every balance."""

import itertools
import pickle
from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from counterpoint.check.coverage import check_batch
from counterpoint.plan.batch import DOCUMENT, ModuleRows
from counterpoint.plan.deal_items import brought_home
from counterpoint.plan.layout import Layout
from counterpoint.plan.plan import Plan
from counterpoint.plan.plan_batch import plan_batch
from counterpoint.plan.samples import Document, Item
from tests.unit.plan.strategies import plans, random_packs, small_plan, uniform_packs

seeds = st.integers(0, 2**16)


@given(plans(), seeds)
def test_every_document_and_item_is_computed_once(plan: Plan, seed: int) -> None:
    packs = random_packs(plan, seed)
    batch = plan.batch(3, packs)
    assert batch.documents == tuple(document for pack in packs for document in pack)
    for module, shares in batch.shares.items():
        found = sorted((s.document, s.item) for lanes in shares for share in lanes for s in share.spans)
        if module == plan.sink:
            expected = [(d, DOCUMENT) for d in range(len(batch.documents))]
        else:
            expected = [
                (d, i)
                for d, document in enumerate(batch.documents)
                for i, item in enumerate(document.items)
                if item.module == module or item.module in plan.graph.roots(module)
            ]
        assert found == expected
    assert check_batch(plan, batch) is None


@given(plans(), seeds)
def test_packs_lie_whole_in_a_cell_and_without_balance_in_order(plan: Plan, seed: int) -> None:
    packs = random_packs(plan, seed)
    batch = plan.batch(0, packs)
    cells = [[s.document for s in share.spans] for lanes in batch.shares[plan.sink] for share in lanes]
    pack_of = [number for number, pack in enumerate(packs) for _document in pack]
    dealt = [{pack_of[document] for document in cell} for cell in cells]
    assert sum(map(len, dealt)) == len(packs)
    assert all(cell == sorted(cell) for cell in cells)
    if plan.rows[plan.sink].balance == "none":
        assert [document for cell in cells for document in cell] == list(range(len(batch.documents)))
        assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


@given(plans(), seeds)
def test_what_is_said_of_lanes_without_laying_them_out_is_what_lies_there(plan: Plan, seed: int) -> None:
    batch = plan.batch(0, random_packs(plan, seed))
    for module, shares in batch.shares.items():
        homes = {batch.homes[span.document] for lanes in shares for share in lanes for span in share.spans}
        assert batch.served(module) == homes
        for microbatch, lanes in enumerate(shares):
            spans = [sorted(share.spans, key=lambda span: (span.document, span.item)) for share in lanes]
            assert [lanes.lengths(lane) for lane in range(len(lanes))] == [[s.rows_in for s in one] for one in spans]
            assert batch.is_empty(module, microbatch) == (not any(spans))
    for microbatch, lanes in enumerate(batch.shares[plan.sink]):
        assert batch.has_even_lanes(microbatch) == (len({share.rows_in for share in lanes}) == 1)


@given(plans(), seeds)
def test_digests_tell_how_a_step_is_dealt(plan: Plan, seed: int) -> None:
    batch = plan.batch(0, random_packs(plan, seed))
    for module, shares in batch.shares.items():
        for lanes in shares:
            if len(lanes) > 1 and lanes.dealt[0] != lanes.dealt[-1]:
                dealt = (lanes.dealt[-1], *lanes.dealt[1:-1], lanes.dealt[0])
                turned = tuple(replace(lanes, dealt=dealt) if one is lanes else one for one in shares)
                assert replace(batch, shares={**batch.shares, module: turned}).digest() != batch.digest()


def test_a_digest_tells_which_unit_a_lane_has() -> None:
    """Of two lanes with as many units as before."""
    plan = small_plan(tp=1)
    batch = plan.batch(0, uniform_packs(4, tokens=12, rows=4))
    for module, shares in batch.shares.items():
        first, second = shares[0].dealt[:2]
        assert first
        assert len(first) == len(second)
        turned = replace(shares[0], dealt=(second, first, *shares[0].dealt[2:]))
        assert replace(batch, shares={**batch.shares, module: (turned, *shares[1:])}).digest() != batch.digest()


@given(plans(), seeds)
def test_plans_are_reproducible_and_their_digests_differ_with_the_batch(plan: Plan, seed: int) -> None:
    packs = random_packs(plan, seed)
    batch = plan.batch(1, packs)
    assert batch == plan.batch(1, packs) == pickle.loads(pickle.dumps(batch))
    assert batch.digest() == plan.batch(1, packs).digest() != plan.batch(2, packs).digest()
    assert batch.loss_tokens == sum(document.loss_tokens for pack in packs for document in pack)
    if packs and packs[0]:
        other = ((replace(packs[0][0], index=packs[0][0].index + 1), *packs[0][1:]), *packs[1:])
        assert plan.batch(1, other).digest() != batch.digest()


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 6))
def test_dealing_by_cost_is_within_grahams_bound(costs: list[int], lanes: int) -> None:
    vision = Layout(module="vision", ranks=tuple(range(lanes)), dp_shard=lanes)
    language = Layout(module="language", ranks=(0,))
    packs = ((Document(0, 0, sum(costs), 0, tuple(items_of(costs))),),)
    modules = {"vision": ModuleRows(vision), "language": ModuleRows(language)}
    batch = plan_batch(0, packs, modules, "language", 1)
    loads = [share.rows_in for share in batch.shares["vision"][0]]
    assert max(loads) <= sum(costs) / lanes + max(costs)
    assert max(loads) - min(loads) <= max(costs)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=24))
def test_trading_keeps_all_places_and_brings_home_all_that_can_be(units: list[tuple[int, int]]) -> None:
    """Of each unit the lane to which it was dealt and the one that is near."""
    places, near = [lane for lane, _near in units], [home for _lane, home in units]
    traded = brought_home(places, near, 5)
    assert sorted(traded) == sorted(places)
    assert Counter(lane for lane, home in zip(traded, near, strict=True) if lane == home) == Counter(places) & Counter(
        near
    )


@given(
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=6),
    lanes=st.integers(1, 5),
    microbatches=st.integers(1, 3),
    group=st.integers(1, 2),
    balance=st.sampled_from(("cost", "sample")),
)
def test_equal_images_lie_in_the_lanes_of_their_documents(
    sizes: list[int], lanes: int, microbatches: int, group: int, balance: str
) -> None:
    """Where lanes have documents of the same images, no image leaves the ranks of its document."""
    layouts = [Layout(module=name, ranks=tuple(range(lanes)), dp_shard=lanes) for name in ("vision", "language")]
    modules = {"vision": ModuleRows(layouts[0], group=group, balance=balance), "language": ModuleRows(layouts[1])}
    document = Document(0, 0, sum(sizes), 0, tuple(items_of(sizes)))
    batch = plan_batch(0, tuple((document,) for _ in range(lanes * microbatches)), modules, "language", microbatches)
    home = {s.document: lane for cells in batch.shares["language"] for lane, c in enumerate(cells) for s in c.spans}
    for shares in batch.shares["vision"]:
        assert all(share.spans for share in shares)
        assert all(home[span.document] == lane for lane, share in enumerate(shares) for span in share.spans)


def items_of(sizes: list[int]) -> list[Item]:
    """Images of so many rows each, behind one another from row 0 on."""
    starts = itertools.accumulate(sizes, initial=0)
    return [Item("vision", start, rows, rows) for start, rows in zip(starts, sizes)]


@given(st.lists(st.integers(1, 30), min_size=0, max_size=12), st.integers(1, 4), st.integers(1, 3))
def test_items_lie_whole_on_context_ranks_unless_one_exceeds_a_share(sizes: list[int], cp: int, tp: int) -> None:
    vision = Layout(module="vision", ranks=tuple(range(cp * tp)), cp=cp, tp=tp)
    language = Layout(module="language", ranks=(0,))
    items, row = [], 0
    for rows in sizes:
        items.append(Item("vision", row, rows * 4, rows))
        row += rows
    packs = ((Document(0, 0, row + 1, 0, tuple(items)),),)
    modules = {"vision": ModuleRows(vision, merge=4), "language": ModuleRows(language)}
    ((share,),) = plan_batch(0, packs, modules, "language", 1).shares["vision"]
    assert share.rows_in == 4 * share.rows_out
    assert share.rows_out % (cp * tp) == 0
    ends = [(span.row_out, span.row_out + span.rows_out) for span in share.spans]
    assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(ends))
    if sizes and max(sizes) * cp > sum(sizes):
        assert share.rows_out < sum(sizes) + cp * tp
        assert ends[-1][1] == sum(sizes)
    elif sizes:
        piece = share.rows_out // cp
        assert all(start // piece == (stop - 1) // piece for start, stop in ends)
        assert piece < sum(sizes) / cp + max(sizes) + tp


@given(
    sizes=st.lists(st.integers(1, 9), max_size=8),
    cp=st.integers(1, 3),
    tp=st.integers(1, 3),
    merge=st.sampled_from([1, 4]),
    prefix=st.integers(0, 5),
    queries=st.integers(1, 5),
)
def test_queries_leave_whatever_the_size_of_their_item(
    sizes: list[int], cp: int, tp: int, merge: int, prefix: int, queries: int
) -> None:
    """As many for each, behind each other, in the piece of a context rank where their item lies."""
    vision = Layout(module="vision", ranks=tuple(range(cp * tp)), cp=cp, tp=tp)
    language = Layout(module="language", ranks=(0,))
    items = tuple(Item("vision", place * queries, rows * merge, queries) for place, rows in enumerate(sizes))
    packs = ((Document(0, 0, len(sizes) * queries + 1, 0, items),),)
    rows = ModuleRows(vision, merge=merge, prefix=prefix, queries=queries)
    modules = {"vision": rows, "language": ModuleRows(language)}
    ((share,),) = plan_batch(0, packs, modules, "language", 1).shares["vision"]
    assert share.rows_in % (cp * tp * merge) == share.rows_out % (cp * tp) == 0
    assert [(span.item, span.rows_in, span.rows_out) for span in sorted(share.spans, key=lambda span: span.item)] == [
        (number, rows * merge, queries) for number, rows in enumerate(sizes)
    ]
    end_in = end_out = 0
    for span in share.spans:
        assert span.row_in - prefix >= end_in
        assert span.row_out >= end_out
        end_in, end_out = span.row_in + span.rows_in, span.row_out + span.rows_out
    assert end_in <= share.rows_in
    assert end_out <= share.rows_out
    extents = rows.extents(items)
    if sizes and max(extents) * cp <= sum(extents):
        for span in share.spans:
            piece = span.row_in // (share.rows_in // cp)
            assert (span.row_in + span.rows_in - 1) // (share.rows_in // cp) == piece
            assert {row // (share.rows_out // cp) for row in range(span.row_out, span.row_out + queries)} == {piece}


def test_a_costly_item_has_a_lane_to_itself() -> None:
    """Dealt by cost, not by number."""
    layouts = {
        "vision": Layout(module="vision", ranks=(0, 1), dp_shard=2),
        "language": Layout(module="language", ranks=(2,)),
    }
    modules = {name: ModuleRows(layout) for name, layout in layouts.items()}
    document = Document(0, 0, 100, 1, tuple(Item("vision", 0, rows, rows) for rows in (1, 1, 8, 1, 1, 1, 1, 1, 1)))
    ((first, second),) = plan_batch(0, ((document,),), modules, "language", 1).shares["vision"]
    assert sorted(sum(span.rows_in for span in share.spans) for share in (first, second)) == [8, 8]


@given(st.integers(0, 9), st.sampled_from([1, 4, 9]), st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_learned_rows_have_room_before_each_item(prefix: int, merge: int, rows: list[int]) -> None:
    """They end right before the item, and neither reaches into what lies before nor shifts the item's merge groups."""
    items = tuple(Item("vision", 0, n * merge, n) for n in rows)
    document = Document(0, 0, 100, 1, items)
    layouts = {name: Layout(module=name, ranks=(0,)) for name in ("vision", "language")}
    modules = {
        "vision": ModuleRows(layouts["vision"], merge=merge, prefix=prefix),
        "language": ModuleRows(layouts["language"]),
    }
    batch = plan_batch(0, ((document,),), modules, "language", 1)
    ((share,),) = batch.shares["vision"]
    end = 0
    for span in sorted(share.spans, key=lambda span: span.row_in):
        assert span.row_in - prefix >= end
        assert span.row_in == span.row_out * merge
        end = span.row_in + span.rows_in
    assert end <= share.rows_in
