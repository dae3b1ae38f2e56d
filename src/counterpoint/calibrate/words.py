"""A machine's speed in a few lines."""

from collections.abc import Iterator

from counterpoint.costs.hardware import Hardware, peak_of
from counterpoint.costs.table import Table

_LEAST_SPREAD = 0.1
"""Spread of repeated measurements from which a table is called unsteady."""


def lines_of(hardware: Hardware) -> Iterator[str]:
    """What is fastest of each kind, what was not measured, and what is unsteady."""
    yield f"{hardware.name}: {hardware.origin}"
    for dtype, table in hardware.products.items():
        yield f"products in {dtype}: up to {peak_of(table) / 1e12:.3g} TFLOP/s"
    for name, curve in (("element-wise", hardware.memory), ("copies to the host", hardware.host_copies)):
        if curve is not None:
            size = curve.axes[0].values[-1]
            yield f"{name}: {size / curve.at(size) / 1e9:.3g} GB/s"
    for kind, tables in hardware.collectives.items():
        for count, curve in tables.items():
            sent = curve.axes[0].values[-1]
            yield f"{kind} of {count} ranks: each sends {sent / curve.at(sent) / 1e9:.3g} GB/s"
    yield f"launch of a kernel: {hardware.launch_seconds * 1e6:.3g} us"
    for name, seconds in hardware.host.measured().items():
        yield f"host, {name.replace('_', ' ')}: {seconds * 1e6:.3g} us"
    if hardware.alone < 1:
        yield f"alone: {hardware.alone:.2f} of the time with all ranks at work"
    unsteady = [name for name, table in _tables(hardware) if max(table.spread, default=0.0) > _LEAST_SPREAD]
    if unsteady:
        yield f"quartiles more than {_LEAST_SPREAD:.0%} apart in: {', '.join(unsteady)}"
    for name, reason in hardware.missing.items():
        yield f"not measured: {name}: {reason}"
    if hardware.filled:
        yield f"taken from other hardware: {', '.join(hardware.filled)}"


def _tables(hardware: Hardware) -> Iterator[tuple[str, Table]]:
    yield from ((f"products.{dtype}", table) for dtype, table in hardware.products.items())
    yield from ((f"grouped.{dtype}", table) for dtype, table in hardware.grouped.items())
    ways = {f"scans.{dtype}": each for dtype, each in hardware.scans.items()}
    for dtype, attention in hardware.attentions.items():
        ways[f"attention.{dtype}"] = attention.packed
        if attention.even is not None:
            ways[f"attention.{dtype}.even"] = attention.even
    for name, each in ways.items():
        yield from ((f"{name}.{way}", table) for way, table in (("forward", each.forward), ("backward", each.backward)))
    for kind, tables in hardware.collectives.items():
        yield from ((f"collectives.{kind} of {count} ranks", table) for count, table in tables.items())
    singles = {
        "memory": hardware.memory, "copies": hardware.copies, "host_copies": hardware.host_copies,
        "updates": hardware.updates, "transfers": hardware.transfers,
    }  # fmt: skip
    yield from ((name, table) for name, table in singles.items() if table is not None)
