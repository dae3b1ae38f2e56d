"""What is measured, on sizes that this processor has, and how it becomes a file even where kernels are missing."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast, get_args

import pytest
import torch

from counterpoint.calibrate import exchanges, machine, traffic
from counterpoint.calibrate.exchanges import Ranks
from counterpoint.calibrate.host import Ways
from counterpoint.calibrate.parts import Findings, layer_layout, parts_of
from counterpoint.calibrate.sizes import Device, Sizes, sizes_for
from counterpoint.calibrate.stopwatch import Call, Passes, Stopwatch, Timing
from counterpoint.calibrate.words import lines_of
from counterpoint.costs.file import MOST_BYTES, parse, text_of
from counterpoint.costs.hardware import COLLECTIVES, Hardware
from counterpoint.costs.host import FIGURES, Host
from counterpoint.execute.groups import Groups, dry_world, make_groups
from counterpoint.layers.attention import sublayer

CPU = torch.device("cpu")
QUICK = sizes_for("cpu", quick=True)
NO_GROUPS = cast(Groups, SimpleNamespace(data_mesh=lambda layout: SimpleNamespace(size=lambda: len(layout.ranks))))
"""Groups that nothing is exchanged in."""

ALONE = Ranks(0, 1, 1)


class Runs:
    """A stopwatch that runs each call twice and measures nothing."""

    def __init__(self, device: torch.device, seconds: float = 1.234567e-5) -> None:
        self.device, self.group, self._seconds = device, None, seconds
        self.alone = self

    def time(self, make: Callable[[], Call]) -> Timing:
        if self.device.type == "cpu":
            call = make()
            call()
            call()
        return Timing(self._seconds, 0.0123)

    def host(self, make: Callable[[], Call]) -> float:
        return self.time(make).seconds

    def host_of_passes(self, make: Callable[[], Passes]) -> tuple[float, ...]:
        """More for what does more, so that every difference is a figure."""
        if self.device.type == "cpu":
            for call in make() * 2:
                call()
        seconds = self._of_passes(make)
        return (seconds,) if self.device.type == "cpu" else (seconds / 2, seconds / 2)

    def _of_passes(self, make: Callable[[], Passes]) -> float:
        assert isinstance(make, partial), "by HostLayers"
        how = make.args[0]
        if isinstance(how, Ways):
            groups = 1 if how.together else 8
            return 0.01 + {"kept": 1, "gathered": 2, "summed": 4}[how.how] * (groups * 1e-3 + 1e-3)
        return {"plain": 0.01, "compiled": 0.01}.get(how, 0.1)

    def time_together(self, _call: Call) -> Timing:
        return Timing(self._seconds, 0.0123)

    def meet(self) -> None: ...

    def total(self, number: float) -> float:
        return number


def _measured(
    sizes: Sizes, device: torch.device = CPU, ranks: Ranks = ALONE, groups: Groups = NO_GROUPS
) -> Hardware:  # fmt: skip
    findings = Findings(device, ranks)
    todo = parts_of(cast(Stopwatch, Runs(device)), sizes, ranks, groups, findings.hardware)
    findings.expect(todo)
    for name, measure in todo.items():
        findings.take(name, measure)
    return findings.hardware()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other's cores would take most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def measured(one_thread: None) -> Hardware:
    """All of a processor, quickly."""
    with dry_world(0, 1) as world:
        return _measured(QUICK, groups=make_groups(world, (), (0,)))


def test_all_is_measured_by_one_rank_but_what_needs_more(measured: Hardware) -> None:
    assert set(measured.missing) == {*(f"collectives.{kind}" for kind in COLLECTIVES), "transfers", "network"}
    assert measured.missing["network"] == "one node"
    assert measured.missing["transfers"] == "one rank on each node"
    assert {*measured.products} == {*measured.grouped} == {*measured.attentions} == {*measured.scans}
    assert parse(text_of(measured).encode(), "mine").products.keys() == {"float32", "float64"}


def test_a_hosts_figures_are_told(measured: Hardware) -> None:
    told = [
        line for line in lines_of(replace(measured, host=Host(plain_kernel=7e-5, group=1.5e-3))) if "host, " in line
    ]
    assert told == ["host, plain kernel: 70 us", "host, group: 1.5e+03 us"]


def test_layers_run_in_all_ways_but_those_that_take_long(measured: Hardware) -> None:
    assert {*measured.host.measured()} == {*FIGURES} - {
        "compiled_kernel",
        "compiled_backward",
        "plain_backward",
        "exchange",
    }
    assert [kind for kind in get_args(Device) for quick in (False, True) if sizes_for(kind, quick=quick).compiles] == [
        "cuda"
    ]


@pytest.mark.parametrize(
    ("kind", "ranks", "sharers"),
    [("cpu", Ranks(5, 8, 4), (5,)), ("cuda", Ranks(5, 8, 4), (4, 5, 6, 7)), ("cuda", ALONE, (0,))],
)
def test_layers_are_sharded_over_the_gpus_of_a_node(kind: Device, ranks: Ranks, sharers: tuple[int, ...]) -> None:
    layout = layer_layout(torch.device(kind), ranks)
    assert layout.group("dp_shard", ranks.rank) == sharers == layout.ranks


def test_a_figure_is_that_of_one_product_one_group_and_one_row_of_a_head(measured: Hardware) -> None:
    seconds = 1.234567e-5
    assert measured.products["float32"].seconds[0] == pytest.approx(seconds / 3)
    groups = QUICK.grouped["float32"].groups
    assert measured.grouped["float32"].seconds[0] == pytest.approx(2 * seconds / 3 / groups)
    heads = QUICK.attention["float32"]
    assert measured.attentions["float32"].packed.forward.seconds[0] == pytest.approx(seconds / heads.rows / heads.heads)
    assert measured.scans["float32"].backward.seconds[0] == pytest.approx(seconds)
    assert measured.memory is not None
    assert measured.memory.axes[0].values[0] * 3 == pytest.approx(8 * 4 * QUICK.elements[0])
    assert measured.memory.seconds[0] == pytest.approx(seconds / 3)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A GPU by name alone; its figures of many ranks need no group."""
    monkeypatch.setattr(machine, "name_of", lambda _device: "H200")
    monkeypatch.setattr(machine, "memory_of", lambda _device, _ranks: 2**37)
    monkeypatch.setattr(machine, "versions", lambda _device: dict.fromkeys(map(str, range(10)), "x" * 100))
    monkeypatch.setattr(traffic, "launch_seconds", lambda _watch: 1e-5)
    monkeypatch.setattr(exchanges, "team_of", lambda *_ranks: None)
    monkeypatch.setattr(exchanges, "_Link", Link)
    return torch.device("cuda")


class Link:
    """A link that carries nothing."""

    def __init__(self, *_ends: object) -> None: ...

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, *_raised: object) -> None: ...

    def call(self, _size: int) -> Call:
        return lambda: None


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_the_largest_file_is_small(gpu: torch.device, kind: Device, quick: bool) -> None:
    ranks = Ranks(0, 16, 8)
    sizes = sizes_for(kind, quick=quick)
    hardware = _measured(sizes, gpu, ranks)
    text = text_of(hardware)
    assert len(text) <= MOST_BYTES
    assert hardware.missing == {}
    assert list(hardware.collectives["all_gather"]) == [2, 4, 8]
    assert text_of(parse(text.encode(), "mine")) == text


def test_a_kernel_that_is_missing_is_told_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def attend(queries: torch.Tensor, *given: Any) -> torch.Tensor:
        if queries.dtype == torch.float64:
            raise RuntimeError("FlashAttention is not here\nat all")
        return sublayer.attend(queries, *given)

    monkeypatch.setattr("counterpoint.calibrate.computes.attend", attend)
    findings = Findings(CPU, ALONE)
    todo = parts_of(Stopwatch(CPU, 1e-4, None), QUICK, ALONE, NO_GROUPS, findings.hardware)
    findings.expect(todo)
    names = ("launch_seconds", "attention.float32", "attention.float64")
    said = {name: findings.take(name, todo[name]) for name in names}
    assert said["attention.float64"] == "not measured: RuntimeError: FlashAttention is not here"
    hardware = findings.hardware()
    assert hardware.missing["attention.float64"] == "RuntimeError: FlashAttention is not here"
    assert hardware.missing["products.float32"] == "not reached"
    assert "not measured: attention.float64: RuntimeError: FlashAttention is not here" in list(lines_of(hardware))
