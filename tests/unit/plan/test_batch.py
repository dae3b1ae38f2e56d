"""Batch plans: every document and item once, whole rows, and the same for every balance."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from counterpoint.check.coverage import check_batch
from counterpoint.plan.batch import DOCUMENT, ModuleRows, plan_batch
from counterpoint.plan.layout import Layout
from counterpoint.plan.plan import Plan
from counterpoint.plan.samples import Document, Item
from tests.unit.plan.strategies import plans, random_packs

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
def test_cells_differ_by_at_most_one_pack_and_keep_the_order(plan: Plan, seed: int) -> None:
    packs = random_packs(plan, seed)
    batch = plan.batch(0, packs)
    cells = [[s.document for s in share.spans] for lanes in batch.shares[plan.sink] for share in lanes]
    assert [document for cell in cells for document in cell] == list(range(len(batch.documents)))
    first = [0]
    for pack in packs:
        first.append(first[-1] + len(pack))
    counts = [sum(document in first for document in cell) for cell in cells]
    assert max(counts) - min(counts) <= 1


@given(plans(), seeds)
def test_plans_are_reproducible_and_their_digests_differ_with_the_batch(plan: Plan, seed: int) -> None:
    packs = random_packs(plan, seed)
    batch = plan.batch(1, packs)
    assert batch == plan.batch(1, packs)
    assert batch.digest() == plan.batch(1, packs).digest() != plan.batch(2, packs).digest()
    assert batch.loss_tokens == sum(document.loss_tokens for pack in packs for document in pack)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 6))
def test_dealing_by_cost_is_within_grahams_bound(costs: list[int], lanes: int) -> None:
    vision = Layout(module="vision", ranks=tuple(range(lanes)), dp_shard=lanes)
    language = Layout(module="language", ranks=(0,))
    items, row = [], 0
    for rows in costs:
        items.append(Item("vision", row, rows, rows))
        row += rows
    packs = ((Document(0, 0, row, 0, tuple(items)),),)
    modules = {"vision": ModuleRows(vision), "language": ModuleRows(language)}
    batch = plan_batch(0, packs, modules, "language", 1)
    loads = [share.rows_in for share in batch.shares["vision"][0]]
    assert max(loads) <= sum(costs) / lanes + max(costs)
    assert max(loads) - min(loads) <= max(costs)


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
