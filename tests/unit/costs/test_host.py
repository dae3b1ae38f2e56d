"""What a host takes: as measured, and otherwise in launches of one kernel."""

from dataclasses import fields, replace

import pytest

from counterpoint import costs
from counterpoint.costs.host import FIGURES, KERNELS_INSTEAD, NO_WORK, NOT_MEASURED, Host, HostWork

H200 = replace(costs.load("H200"), host=NOT_MEASURED)
ON_CPU = replace(H200, device="cpu")
WORK = HostWork(
    kernels=100, groups=4, group_tensors=40, gathers=3, gathered_tensors=30, sums=2, summed_tensors=20, recomputed=5,
    transfers=6, exchanges=7, mixtures=8, scans=9, updated_tensors=10,
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
    assert {*counts, "compiled_kernel", "plain_kernel"} == {*FIGURES}
    beside = sum(count * figures[figure] for figure, count in counts.items())
    for hardware in (replace(H200, host=Host(**figures)), replace(ON_CPU, host=Host(**figures))):
        for is_compiled in (True, False):
            kernel = figures["compiled_kernel" if is_compiled else "plain_kernel"]
            seconds = hardware.host_seconds(WORK, is_compiled=is_compiled)
            other = figures["compiled_kernel" if hardware.device == "cuda" else "plain_kernel"]
            assert seconds == pytest.approx(beside + 100 * kernel + (6 * 10 + 10) * other, rel=1e-12)


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
