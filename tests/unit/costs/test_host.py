"""What a host takes: as measured, and otherwise in launches of one kernel."""

from dataclasses import fields, replace

import pytest

from counterpoint import costs
from counterpoint.costs.host import FIGURES, KERNELS_INSTEAD, NO_WORK, NOT_MEASURED, Host, HostWork

H200 = replace(costs.load("H200"), host=NOT_MEASURED)
ON_CPU = replace(H200, device="cpu")
WORK = HostWork(
    kernels=60, backward_kernels=40, groups=4, group_tensors=40, gathers=3, gathered_tensors=30, sums=2,
    summed_tensors=20, recomputed=5, transfers=6, exchanges=7, mixtures=8, scans=9, updated_tensors=10,
)  # fmt: skip
KERNELS = (
    100 + 4 * 2.5 + 40 * 0.1 + 3 * 8 + 30 * 0.2 + 2 * 8 + 20 * 0.2 + 5 * 18 + 6 * 10 + 7 * 5 + 8 * 36 + 9 * 36 + 10
)
"""What all of that counts as where nothing was measured."""


def test_work_is_added_kind_by_kind() -> None:
    numbers = {each.name: number for number, each in enumerate(fields(HostWork), 1)}
    both = WORK + HostWork(**numbers)
    assert {name: getattr(both, name) - getattr(WORK, name) for name in numbers} == numbers
    assert WORK + NO_WORK == WORK


@pytest.mark.parametrize(("is_compiled", "launches"), [(True, 5), (False, 2)])
def test_the_hosts_of_files_without_figures_of_them_take_launches(is_compiled: bool, launches: int) -> None:
    without = [hardware for hardware in map(costs.load, costs.names()) if hardware.host == NOT_MEASURED]
    assert len(without) == len(costs.names()) - 1
    for hardware in (H200, *without):
        seconds = hardware.host_seconds(WORK, is_compiled=is_compiled)
        # Only kernels depend on whether layers are compiled.
        assert seconds == pytest.approx((100 * launches + (KERNELS - 100) * 5) * hardware.launch_seconds)
    on_cpu = ON_CPU.host_seconds(WORK, is_compiled=is_compiled)
    assert on_cpu == pytest.approx(KERNELS * H200.launch_seconds)


def test_what_was_measured_of_a_host_counts_as_measured() -> None:
    figures = {name: 10.0**number for number, name in enumerate(FIGURES)}
    counts = {figure: getattr(WORK, name) for name, (figure, _kernels) in KERNELS_INSTEAD.items() if figure}
    of_kernels = {f"{way}_{which}" for way in ("compiled", "plain") for which in ("kernel", "backward")}
    assert {*counts, *of_kernels} == {*FIGURES}
    beside = sum(count * figures[figure] for figure, count in counts.items())
    for hardware in (replace(H200, host=Host(**figures)), replace(ON_CPU, host=Host(**figures))):
        for is_compiled in (True, False):
            way, other = ("compiled" if one else "plain" for one in (is_compiled, hardware.device == "cuda"))
            seconds = hardware.host_seconds(WORK, is_compiled=is_compiled)
            either = (figures[f"{other}_kernel"] + figures[f"{other}_backward"]) / 2
            kernels = 60 * figures[f"{way}_kernel"] + 40 * figures[f"{way}_backward"]
            assert seconds == pytest.approx(beside + kernels + (6 * 10 + 10) * either, rel=1e-12)


def test_a_kernel_counts_alike_in_both_passes_where_backward_was_not_measured() -> None:
    for figures in ({"compiled_kernel": 3.0}, {"compiled_kernel": 3.0, "compiled_backward": 3.0}):
        hardware = replace(H200, host=Host(**figures, group=1.0))
        some = HostWork(kernels=60, backward_kernels=40, groups=4, transfers=6)
        assert hardware.host_seconds(some, is_compiled=True) == pytest.approx(100 * 3 + 4 + 60 * 3)
        assert hardware.host_kernels(is_compiled=False) == (2 * H200.launch_seconds,) * 2


@pytest.mark.parametrize(
    ("name", "count", "kernels"), [("group", 4, 2.5), ("sum_tensor", 20, 0.2), ("exchange", 7, 5.0)]
)
def test_one_figure_alone_leaves_the_others_as_they_were(name: str, count: int, kernels: float) -> None:
    some = replace(H200, host=Host(**{name: 0.5}))
    rest = (KERNELS - count * kernels) * 5 * H200.launch_seconds
    assert some.host_seconds(WORK, is_compiled=True) == pytest.approx(count * 0.5 + rest)


def test_figures_are_named() -> None:
    assert Host().measured() == {}
    assert tuple(Host(**dict.fromkeys(FIGURES, 1.0)).measured()) == FIGURES
