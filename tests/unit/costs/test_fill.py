"""Gaps of measured hardware are filled from other hardware, and said to be."""

from dataclasses import replace

import pytest

from counterpoint import costs
from counterpoint.costs.file import parse, text_of
from counterpoint.costs.fill import filled
from counterpoint.costs.hardware import Hardware
from counterpoint.costs.host import Host
from counterpoint.costs.table import Axis, Table
from counterpoint.errors import InputError

BASE = costs.load("H200")
TWO = Table((Axis("sent_bytes", (1e3, 1e9)),), (1e-5, 1e-2), (0.1, 0.2))
PRODUCT = Table((Axis("smallest", (64.0,)), Axis("others", (4096.0, 1e6))), (1e-6, 2e-4))


def _measured() -> Hardware:
    return Hardware(
        name="mine",
        source="measured",
        origin="here",
        device="cuda",
        memory_bytes=2**30,
        ranks_per_node=2,
        launch_seconds=1e-5,
        peaks={"bfloat16": 1e12},
        products={"bfloat16": PRODUCT},
        collectives={"all_gather": {2: TWO}},
        missing={"scans.bfloat16": "no kernel", "network": "one node", "attention.float64": "no kernel"},
    )


def test_what_was_measured_stays_and_the_rest_is_taken() -> None:
    found = filled(_measured(), BASE)
    assert found.products["bfloat16"] is PRODUCT
    assert (found.name, found.source, found.memory_bytes, found.launch_seconds) == ("mine", "measured", 2**30, 1e-5)
    assert found.network == BASE.network
    assert found.scans == BASE.scans
    assert found.ranks_per_node == 8
    assert found.peaks == BASE.peaks
    assert found.missing == {"attention.float64": "no kernel"}
    assert {"scans.bfloat16", "network", "transfers", "products.float32", "collectives.all_reduce", "ranks_per_node",
            "collectives.all_gather of 8 ranks", "peaks.bfloat16"} <= set(found.filled)  # fmt: skip
    assert not {"products.bfloat16", "collectives.all_gather"} & set(found.filled)


def test_figures_of_the_host_that_are_missing_are_the_bases() -> None:
    measured = replace(_measured(), host=Host(plain_kernel=1e-5), missing={"host.gather": "no kernel"})
    found = filled(measured, replace(BASE, host=Host(plain_kernel=2e-5, gather=3e-4)))
    assert found.host == Host(plain_kernel=1e-5, gather=3e-4)
    assert found.missing == {}
    assert "host.gather" in found.filled
    assert "host.plain_kernel" not in found.filled


def test_collectives_of_more_ranks_are_the_bases_and_others_as_measured() -> None:
    found = filled(_measured(), BASE)
    assert found.collective("all_gather", 2000, 2) == pytest.approx(1e-5)
    for size in (1, 2**20, 2**30):
        assert found.collective("all_gather", size, 8) == BASE.collective("all_gather", size, 8)


def test_a_product_faster_than_the_bases_peak_is_the_peak() -> None:
    found = filled(replace(_measured(), peaks={"bfloat16": 9e15}), BASE)
    assert found.peaks["bfloat16"] == 9e15
    assert "peaks.bfloat16" not in found.filled


def test_a_filled_file_is_read_again() -> None:
    found = filled(_measured(), BASE)
    again = parse(text_of(found).encode(), "mine")
    assert text_of(again) == text_of(found)
    assert (again.filled, again.missing) == (found.filled, found.missing)


def test_a_gpu_does_not_fill_a_cpu() -> None:
    with pytest.raises(InputError, match="H200: got hardware of device cuda to fill gaps of device cpu"):
        filled(replace(_measured(), device="cpu"), BASE)


def test_a_cpus_seconds_hold_for_the_ranks_that_were_measured() -> None:
    cpu = replace(costs.load("H200"), device="cpu")
    found = filled(replace(cpu, ranks_per_node=2), replace(cpu, ranks_per_node=8))
    assert found.ranks_per_node == 2
