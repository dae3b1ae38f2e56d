"""What a host takes: as measured, and otherwise in launches of one kernel."""

from dataclasses import fields, replace

import pytest

from counterpoint import costs
from counterpoint.costs.host import FIGURES, NO_WORK, Host, HostWork

H200 = costs.load("H200")
ON_CPU = replace(H200, device="cpu")
WORK = HostWork(
    kernels=100, groups=4, gathers=3, sums=2, recomputed=5, transfers=6, exchanges=7, mixtures=8, scans=9, tensors=10
)
KERNELS = 100 + 4 * 4 + 3 * 9 + 2 * 9 + 5 * 18 + 6 * 10 + 7 * 5 + 8 * 36 + 9 * 36 + 10
"""What all of that counts as where nothing was measured."""


def test_work_is_added_kind_by_kind() -> None:
    numbers = {each.name: number for number, each in enumerate(fields(HostWork), 1)}
    both = WORK + HostWork(**numbers)
    assert {name: getattr(both, name) - getattr(WORK, name) for name in numbers} == numbers
    assert WORK + NO_WORK == WORK


@pytest.mark.parametrize(("is_compiled", "launches"), [(True, 5), (False, 2)])
def test_the_hosts_of_shipped_files_take_launches(is_compiled: bool, launches: int) -> None:
    for name in costs.names():
        hardware = costs.load(name)
        assert hardware.host == Host()
        seconds = hardware.host_seconds(WORK, is_compiled=is_compiled)
        assert seconds == KERNELS * launches * hardware.launch_seconds
    assert ON_CPU.host_seconds(WORK, is_compiled=is_compiled) == KERNELS * H200.launch_seconds


def test_what_was_measured_of_a_host_counts_as_measured() -> None:
    host = Host(
        compiled_kernel=1.0, plain_kernel=10.0, group=100.0, gather=1e3, sum=1e4, recomputed=1e5, exchange=1e6,
        mixture=1e7, scan=1e8,
    )  # fmt: skip
    for hardware in (replace(H200, host=host), replace(ON_CPU, host=host)):
        beside = 4 * 100.0 + 3 * 1e3 + 2 * 1e4 + 5 * 1e5 + 7 * 1e6 + 8 * 1e7 + 9 * 1e8
        assert hardware.host_seconds(WORK, is_compiled=True) == beside + (100 + 6 * 10 + 10) * 1.0
        assert hardware.host_seconds(WORK, is_compiled=False) == beside + (100 + 6 * 10 + 10) * 10.0


@pytest.mark.parametrize(
    ("name", "count", "kernels"),
    [("group", 4, 4), ("gather", 3, 9), ("sum", 2, 9), ("exchange", 7, 5), ("mixture", 8, 36), ("scan", 9, 36)],
)
def test_one_figure_alone_leaves_the_others_as_they_were(name: str, count: int, kernels: int) -> None:
    some = replace(H200, host=Host(**{name: 0.5}))
    rest = (KERNELS - count * kernels) * 5 * H200.launch_seconds
    assert some.host_seconds(WORK, is_compiled=True) == pytest.approx(count * 0.5 + rest)


def test_figures_are_named() -> None:
    assert Host().measured() == {}
    assert tuple(Host(**dict.fromkeys(FIGURES, 1.0)).measured()) == FIGURES
