"""What operations cost: never less for more, never less than at the peak, and equal to what was measured."""

from dataclasses import replace
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint import costs
from counterpoint.costs.hardware import COLLECTIVES, DTYPES, Collective, Hardware, Ways
from counterpoint.costs.table import Axis, Table
from counterpoint.errors import InputError
from tests.unit.costs.assumed_files import PUBLISHED, assumed

KNOWN = tuple(map(costs.load, costs.names()))
HARDWARE = st.sampled_from(KNOWN)
DTYPE = st.sampled_from(DTYPES)
NARROW = st.sampled_from(("float32", "bfloat16"))
SIZE = st.integers(1, 2**16)
BYTES = st.integers(1, 2**36)
KIND = st.sampled_from(COLLECTIVES)
SIX = log(6 / 4) / log(8 / 4)
"""Where 6 ranks lie between 4 and 8."""
_ALMOST = 1 - 1e-9


@given(HARDWARE, st.tuples(SIZE, SIZE, SIZE), st.tuples(SIZE, SIZE, SIZE), DTYPE)
def test_larger_products_cost_no_less(
    hardware: Hardware, sizes: tuple[int, int, int], more: tuple[int, int, int], dtype: str
) -> None:
    rows, inner, columns = sizes
    seconds = hardware.product(rows, inner, columns, dtype)
    assert seconds >= 2 * rows * inner * columns / hardware.peak_flops(dtype) > 0
    assert hardware.product(rows + more[0], inner + more[1], columns + more[2], dtype) >= seconds * _ALMOST
    assert hardware.product(columns, rows, inner, dtype) == pytest.approx(seconds)


@given(HARDWARE, st.integers(1, 256), SIZE, SIZE, SIZE, SIZE, NARROW)
def test_larger_grouped_products_cost_no_less(
    hardware: Hardware, groups: int, rows: int, inner: int, columns: int, more: int, dtype: str
) -> None:
    seconds = hardware.grouped_product(groups, rows, inner, columns, dtype)
    assert seconds >= 2 * rows * inner * columns / hardware.peak_flops(dtype) > 0
    assert hardware.grouped_product(groups, rows + more, inner, columns, dtype) >= seconds * _ALMOST
    assert hardware.grouped_product(groups, rows, inner + more, columns, dtype) >= seconds * _ALMOST


@given(HARDWARE, SIZE, SIZE, st.integers(1, 128), st.integers(1, 256), SIZE, NARROW, st.booleans())
def test_more_attention_costs_no_less(
    hardware: Hardware, keys: int, rows: int, heads: int, dim: int, more: int, dtype: str, backward: bool
) -> None:
    seconds = hardware.attention(keys * rows, rows, heads, dim, dtype, backward)
    flops = (10 if backward else 4) * keys * rows * heads * dim
    assert seconds >= flops / hardware.peak_flops(dtype) * _ALMOST > 0
    for larger in (
        hardware.attention(keys * rows + more, rows, heads, dim, dtype, backward),
        hardware.attention(keys * (rows + more), rows + more, heads, dim, dtype, backward),
        hardware.attention(keys * rows, rows, heads + more, dim, dtype, backward),
        hardware.attention(keys * rows, rows, heads, dim + more, dtype, backward),
    ):
        assert larger >= seconds * _ALMOST


@given(HARDWARE, BYTES, BYTES)
def test_more_bytes_cost_no_less(hardware: Hardware, size: int, more: int) -> None:
    for cost in (hardware.elementwise, hardware.copy, hardware.to_host, hardware.update, hardware.transfer):
        assert 0 < cost(size) <= cost(size + more) / _ALMOST
    assert hardware.transfer(size, 2) >= hardware.transfer(size)


@given(HARDWARE, KIND, BYTES, BYTES, st.integers(1, 6), st.integers(0, 10))
def test_larger_collectives_cost_no_less(
    hardware: Hardware, kind: Collective, size: int, more: int, ranks: int, nodes: int
) -> None:
    count, places = 2 ** (ranks + nodes), 2**nodes
    seconds = hardware.collective(kind, size, count, places)
    assert 0 < seconds <= hardware.collective(kind, size + more, count, places) / _ALMOST
    assert hardware.collective(kind, size, count, 2 * places) >= 0


@given(HARDWARE, st.integers(1, 2**20), st.integers(0, 2**20), NARROW, st.booleans())
def test_more_rows_of_a_scan_cost_no_less(hardware: Hardware, rows: int, more: int, dtype: str, backward: bool) -> None:
    assert (
        0
        < hardware.scan(rows, 8, 64, 128, dtype, backward)
        <= (hardware.scan(rows + more, 8, 64, 128, dtype, backward) / _ALMOST)
    )


def test_nothing_costs_nothing() -> None:
    hardware = costs.load("H200")
    assert hardware.product(0, 128, 128, "bfloat16") == hardware.grouped_product(4, 0, 64, 64, "bfloat16") == 0
    assert hardware.attention(0, 0, 8, 64, "bfloat16", True) == hardware.scan(0, 8, 64, 64, "bfloat16", False) == 0
    assert hardware.collective("all_gather", 2**20, 1) == hardware.collective("all_reduce", 0, 8) == 0
    assert hardware.transfer(0) == hardware.elementwise(0) == 0


def test_measured_points_come_back_and_what_lies_between_is_a_power_law() -> None:
    table = Table((Axis("a", (1.0, 4.0)), Axis("b", (10.0, 1000.0))), (1.0, 3.0, 2.0, 12.0))
    assert [table.at(a, b) for a in (1, 4) for b in (10, 1000)] == pytest.approx([1, 3, 2, 12])
    assert table.at(2, 100) == pytest.approx((1 * 3 * 2 * 12) ** 0.25)
    assert table.at(0.5, 10) == table.at(1, 5) == pytest.approx(1)
    assert table.at(8, 1000) == table.at(4, 2000) == pytest.approx(24)
    assert table.at(8, 2000) == pytest.approx(48)


def test_repeated_measurements_that_fall_are_made_to_rise() -> None:
    table = Table((Axis("a", (1.0, 2.0)), Axis("b", (1.0, 2.0, 4.0))), (1.0, 5.0, 4.0, None, 3.0, 9.0))
    assert [table.at(1, b) for b in (1, 2, 4)] == pytest.approx([1, 5, 5])
    assert [table.at(2, b) for b in (1, 2, 4)] == pytest.approx([1.5, 5, 9])


@pytest.mark.parametrize("sizes", [(64, 512, 2048), (2048, 64, 512), (512, 2048, 64)])
def test_a_product_is_looked_up_by_its_smallest_size(sizes: tuple[int, int, int]) -> None:
    table = Table((Axis("smallest", (64.0, 512.0)), Axis("others", (2.0**18, 2.0**20))), (1.0, 5.0, 2.0, 7.0))
    hardware = replace(costs.load("H200"), products={"bfloat16": table})
    assert hardware.product(*sizes, "bfloat16") == pytest.approx(5.0)


def test_a_grouped_product_is_looked_up_by_the_rows_of_a_group() -> None:
    table = Table((Axis("rows", (64.0, 512.0)), Axis("weight", (2.0**18, 2.0**20))), (1.0, 5.0, 2.0, 7.0))
    hardware = replace(costs.load("H200"), grouped={"bfloat16": table})
    assert hardware.grouped_product(8, 8 * 64, 512, 2048, "bfloat16") == pytest.approx(8 * 5.0)


def test_inside_a_node_each_rank_sends_its_share_of_the_tensor() -> None:
    sent = Axis("sent_bytes", (7.0, 700.0))
    by_ranks = {count: Table((sent,), (count / 4, 25.0 * count)) for count in (4, 8)}
    hardware = replace(costs.load("H200"), collectives={kind: by_ranks for kind in COLLECTIVES})
    assert hardware.collective("all_gather", 800, 8) == pytest.approx(200)
    assert hardware.collective("all_reduce", 400, 8) == pytest.approx(200)
    assert hardware.collective("reduce_scatter", 1400, 2) == pytest.approx(100)
    assert hardware.collective("all_to_all", 840, 6) == pytest.approx(100 ** (1 - SIX) * 200**SIX)
    assert hardware.collective("all_gather", 800, 9) == pytest.approx(200 * 800 * 8 / 9 / 700)


def test_between_nodes_the_ranks_of_a_node_share_what_leaves_it() -> None:
    hardware = costs.load("H200")
    assert hardware.network is not None
    alone, shared = (hardware.collective("all_gather", 2**34, ranks, 16) for ranks in (16, 128))
    assert alone == pytest.approx(2**34 * 15 / 16 / hardware.network.bytes_per_second, rel=0.01)
    assert shared == pytest.approx(max(alone / 8, hardware.collective("all_gather", 2**34, 8)), rel=0.01)
    assert hardware.collective("all_to_all", 2**34, 128, 16) == pytest.approx(alone, rel=0.01)


def test_few_rows_of_attention_cost_as_many_as_fill_the_device() -> None:
    hardware = costs.load("A100")
    least = hardware.attentions["bfloat16"].least_rows
    few, enough = (hardware.attention(256 * rows, rows, 1, 64, "bfloat16", False) for rows in (least // 8, least))
    assert few == enough < hardware.attention(512 * least, 2 * least, 1, 64, "bfloat16", False)


def test_documents_of_one_length_have_kernels_of_their_own_where_these_were_measured() -> None:
    hardware = costs.load("A100")
    known = hardware.attentions["bfloat16"]
    fast = Ways(forward=of_heads(3e-9), backward=of_heads(6e-9))
    with_even = replace(hardware, attentions={"bfloat16": replace(known, even=fast)})
    for backward in (False, True):
        case = (2**25, 2**15, 8, 64, "bfloat16", backward)
        assert with_even.attention(*case) == hardware.attention(*case) == hardware.attention(*case, even=True)
        assert with_even.attention(*case, even=True) == pytest.approx(2**18 * (6e-9 if backward else 3e-9))


def of_heads(seconds: float) -> Table:
    """The same seconds for rows of all heads."""
    return Table((Axis("head_dim", (64.0,)), Axis("keys", (1024.0,))), (seconds,))


def test_without_figures_it_says_what_is_missing_and_why() -> None:
    hardware = replace(costs.load("H200"), scans={}, network=None, missing={"scans.bfloat16": "no kernel"})
    with pytest.raises(InputError, match=r"H200: got no figures of scans\.bfloat16 \(no kernel\), expected"):
        hardware.scan(8, 8, 8, 8, "bfloat16", False)
    with pytest.raises(InputError, match="got no figures of network"):
        hardware.transfer(8, 2)
    with pytest.raises(InputError, match=r"got no figures of attention\.float64 \(never measured\)"):
        hardware.attention(8, 8, 8, 8, "float64", False)


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda one: one.name)
def test_assumed_hardware_reaches_what_is_written_beside_it(published: object) -> None:
    hardware = next(assumed(one) for one in PUBLISHED if one is published)
    rate = 2 * 8192**3 / hardware.product(8192, 8192, 8192, "bfloat16")
    assert rate == pytest.approx(0.70 * hardware.peak_flops("bfloat16"), rel=0.02)
    assert hardware.launch_seconds < hardware.elementwise(2**28) < hardware.to_host(2**28)


def test_an_assumed_h200_agrees_with_what_was_measured_on_one() -> None:
    """Figures of docs/performance.md and of kernels alone: TFLOP/s, forward and backward."""
    hardware = next(assumed(one) for one in PUBLISHED if one.name == "H200")
    for documents, length, measured in ((1, 8192, 578e12), (8, 1024, 250e12)):
        pairs, rows = documents * length * (length + 1) // 2, documents * length
        seconds = sum(hardware.attention(pairs, rows, 16, 128, "bfloat16", back) for back in (False, True))
        assert 14 * pairs * 16 * 128 / seconds == pytest.approx(measured, rel=0.06)
    seconds = 3 * hardware.grouped_product(32, 49152, 2688, 1856, "bfloat16")
    assert 6 * 49152 * 2688 * 1856 / seconds == pytest.approx(529e12, rel=0.35)
