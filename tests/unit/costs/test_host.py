"""What a host takes: as measured, and otherwise in launches of one kernel."""

from dataclasses import replace

import pytest

from counterpoint import costs
from counterpoint.costs.host import FIGURES, Host, HostWork

H200 = costs.load("H200")
ON_CPU = replace(H200, device="cpu")
WORK = HostWork(kernels=100, groups=4, gathers=3, sums=2, recomputed=5, transfers=6)
KERNELS = 100 + 4 * 4 + 3 * 9 + 2 * 9 + 5 * 18 + 6 * 10
"""What all of that counts as where nothing was measured."""


def test_work_is_added_kind_by_kind() -> None:
    both = WORK + HostWork(kernels=1, groups=2, gathers=3, sums=4, recomputed=5, transfers=6)
    assert both == HostWork(kernels=101, groups=6, gathers=6, sums=6, recomputed=10, transfers=12)


@pytest.mark.parametrize(("is_compiled", "launches"), [(True, 6), (False, 2)])
def test_the_hosts_of_shipped_files_take_launches(is_compiled: bool, launches: int) -> None:
    for name in costs.names():
        hardware = costs.load(name)
        assert hardware.host == Host()
        seconds = hardware.host_seconds(WORK, is_compiled=is_compiled)
        assert seconds == KERNELS * launches * hardware.launch_seconds
    assert ON_CPU.host_seconds(WORK, is_compiled=is_compiled) == KERNELS * H200.launch_seconds


def test_what_was_measured_of_a_host_counts_as_measured() -> None:
    host = Host(compiled_kernel=1.0, plain_kernel=10.0, group=100.0, gather=1e3, sum=1e4, recomputed=1e5)
    for hardware in (replace(H200, host=host), replace(ON_CPU, host=host)):
        beside = 4 * 100.0 + 3 * 1e3 + 2 * 1e4 + 5 * 1e5
        assert hardware.host_seconds(WORK, is_compiled=True) == beside + (100 + 6 * 10) * 1.0
        assert hardware.host_seconds(WORK, is_compiled=False) == beside + (100 + 6 * 10) * 10.0


@pytest.mark.parametrize(("name", "count", "kernels"), [("group", 4, 4), ("gather", 3, 9), ("sum", 2, 9)])
def test_one_figure_alone_leaves_the_others_as_they_were(name: str, count: int, kernels: int) -> None:
    some = replace(H200, host=Host(**{name: 0.5}))
    rest = (KERNELS - count * kernels) * 6 * H200.launch_seconds
    assert some.host_seconds(WORK, is_compiled=True) == pytest.approx(count * 0.5 + rest)


def test_figures_are_named() -> None:
    assert Host().measured() == {}
    assert tuple(Host(**dict.fromkeys(FIGURES, 1.0)).measured()) == FIGURES
