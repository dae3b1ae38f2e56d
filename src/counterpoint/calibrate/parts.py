"""What is measured, in which order, and the hardware that comes out."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, final

import torch

from counterpoint.calibrate import computes, exchanges, machine, traffic
from counterpoint.calibrate.exchanges import Ranks
from counterpoint.calibrate.host import HostLayers
from counterpoint.calibrate.sizes import Device, Sizes
from counterpoint.calibrate.stopwatch import NotMeasuredError, Stopwatch
from counterpoint.costs.hardware import COLLECTIVES, Hardware, peak_of
from counterpoint.costs.host import Host
from counterpoint.execute.groups import Groups
from counterpoint.plan.layout import Layout

Part = Callable[[], Any]
"""Measures what a name in the file stands for; raises NotMeasuredError if that is not possible here."""

_NOT_REACHED = "not reached"


def parts_of(
    watch: Stopwatch, sizes: Sizes, ranks: Ranks, groups: Groups, known: Callable[[], Hardware]
) -> dict[str, Part]:
    """In the order of measurement: kernels that may be missing, or damage what comes after them, last; `known` is the
    hardware as far as it was measured."""
    parts: dict[str, Part] = {"launch_seconds": partial(traffic.launch_seconds, watch)}
    for dtype in sizes.sides:
        parts[f"products.{dtype}"] = partial(computes.products, watch, sizes, dtype)
    parts["memory"] = partial(traffic.elementwise, watch, sizes.elements)
    parts["copies"] = partial(traffic.copies, watch, sizes.elements)
    parts["host_copies"] = partial(traffic.host_copies, watch, sizes.elements)
    parts["alone"] = partial(_alone, watch, sizes, ranks)
    for kind in COLLECTIVES:
        parts[f"collectives.{kind}"] = partial(exchanges.collective, watch, sizes, ranks, groups, kind)
    parts["transfers"] = partial(exchanges.transfer, watch, sizes, ranks, groups)
    parts["network"] = partial(exchanges.network, watch, ranks, groups)
    parts["updates"] = partial(traffic.updates, watch, sizes.elements)
    for dtype, many in sizes.grouped.items():
        parts[f"grouped.{dtype}"] = partial(computes.grouped, watch, many, dtype)
    for dtype in sizes.attention:
        parts[f"scans.{dtype}"] = partial(computes.scans, watch, sizes.scans, dtype)
    for dtype, heads in sizes.attention.items():
        parts[f"attention.{dtype}"] = partial(computes.attention, watch, heads, dtype)
    layers = HostLayers(
        watch,
        known,
        lambda: groups.data_mesh(layer_layout(watch.device, ranks)),
        lambda: exchanges.team_of(ranks, groups, 2),
        compiles=sizes.compiles,
    )
    ways = {"plain": False, "compiled": True} if sizes.compiles else {"plain": False}
    for way, is_compiled in ways.items():
        parts[f"host.{way}_kernel"] = partial(layers.kernel, is_compiled=is_compiled)
        if watch.device.type == "cuda":
            parts[f"host.{way}_backward"] = partial(layers.backward, is_compiled=is_compiled)
    parts |= {
        "host.recomputed": layers.recomputed, "host.group": layers.group, "host.group_tensor": layers.group_tensor,
        "host.gather": layers.gather, "host.gather_tensor": layers.gather_tensor,
        "host.sum": layers.sum, "host.sum_tensor": layers.sum_tensor,
    }  # fmt: skip
    parts |= {"host.mixture": layers.mixture, "host.scan": layers.scan}
    if watch.device.type == "cuda":
        # On a CPU the tables of collectives have what ranks do together.
        parts["host.exchange"] = layers.exchange
    return parts


def layer_layout(device: torch.device, ranks: Ranks) -> Layout:
    """Over which ranks layers are sharded: those of this one's node, on a CPU this rank alone."""
    is_alone = device.type == "cpu" or ranks.per_node == 1
    team = (ranks.rank,) if is_alone else next(one for one in ranks.teams(ranks.per_node) if ranks.rank in one)
    return Layout(module="layers", ranks=team, dp_shard=len(team))


def _alone(watch: Stopwatch, sizes: Sizes, ranks: Ranks) -> float:
    """The share of a product's time, with all ranks at work, that it takes while the others wait."""
    if watch.device.type == "cuda":
        return 1.0

    def make() -> Callable[[], object]:
        return computes.product(sizes.smallest[-1], sizes.sides["float32"][-2], torch.float32, watch.device)

    together = watch.time(make).seconds
    own = watch.alone.time(make).seconds if ranks.rank == 0 else 0.0
    return min(1.0, watch.total(own) / together)


@final
class Findings:
    """What was measured so far, by name, and why the rest was not."""

    def __init__(self, device: torch.device, ranks: Ranks) -> None:
        self._device, self._ranks = device, ranks
        self._found: dict[str, Any] = {}
        self._missing: dict[str, str] = {}

    def expect(self, names: Iterable[str]) -> None:
        """These parts will be measured."""
        self._missing |= dict.fromkeys(names, _NOT_REACHED)

    def take(self, name: str, measure: Part) -> str:
        """Measure one part; returns what there is to say about it."""
        try:
            self._found[name] = measure()
        except NotMeasuredError as error:
            self._missing[name] = str(error)
            return f"not measured: {error}"
        del self._missing[name]
        return _words(self._found[name])

    def hardware(self) -> Hardware:
        """The hardware as far as it was measured."""
        device: Device = "cuda" if self._device.type == "cuda" else "cpu"
        products = self._by_name("products")
        peaks = {dtype: peak_of(made) for dtype, made in products.items()}
        versions, ranks = machine.versions(self._device), self._ranks
        return Hardware(
            name=machine.name_of(self._device),
            source="measured",
            origin=f"counterpoint calibrate, {ranks.size} ranks, {ranks.per_node} on a node, all of them at work.",
            device=device,
            machine=versions,
            missing=dict(self._missing),
            memory_bytes=machine.memory_of(self._device, ranks.per_node),
            ranks_per_node=ranks.per_node,
            launch_seconds=self._found["launch_seconds"],
            host=Host(**self._by_name("host")),
            alone=self._found.get("alone", 1.0),
            peaks=peaks,
            products=products,
            # A file has a peak for all dtypes of its tables.
            grouped=self._by_name("grouped", peaks),
            attentions=self._by_name("attention", peaks),
            scans=self._by_name("scans", peaks),
            memory=self._found.get("memory"),
            copies=self._found.get("copies"),
            host_copies=self._found.get("host_copies"),
            updates=self._found.get("updates"),
            collectives={kind: found for kind, found in self._by_name("collectives").items() if kind in COLLECTIVES},
            transfers=self._found.get("transfers"),
            network=self._found.get("network"),
        )

    def _by_name(self, above: str, known: Mapping[str, object] | None = None) -> dict[Any, Any]:
        """Parts named `above`.key by their keys, those that are `known`."""
        pairs = ((name.partition("."), found) for name, found in self._found.items())
        return {
            key: found for (section, _dot, key), found in pairs if section == above and (known is None or key in known)
        }


def _words(found: object) -> str:
    """A figure in a few words."""
    if isinstance(found, float):
        return f"{found:.3g}"
    return "measured"
