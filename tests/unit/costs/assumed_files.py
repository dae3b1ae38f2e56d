"""Writes the shipped files of hardware that nobody has measured yet, from what its makers publish.

`python -m tests.unit.costs.assumed_files` writes them anew; what was measured stays.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

from counterpoint import costs
from counterpoint.costs.file import text_of
from counterpoint.costs.hardware import COLLECTIVES, Attention, Hardware, Network, Ways
from counterpoint.costs.table import Axis, Table

FOLDER = Path(costs.__file__).with_name("shipped")

WIDTHS = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
SIDES = (256, 512, 1024, 2048, 4096, 8192, 16384)
SMALLEST = (16, 64, 256, 1024, 4096, 8192)
BYTES = tuple(float(2**power) for power in range(10, 35, 3))

OF_PRODUCTS, OF_MEMORY, OF_LINKS = 0.70, 0.85, 0.80
"""Share of the published rate that is reached: inside of steps 690 of 989 TFLOP/s were measured on an H200, at whose
power limit clocks fall; alone a product of 8192 x 8192 x 8192 reached 791."""

OF_ATTENTION = {64: 0.75, 80: 0.85, 128: 1.0, 256: 1.0}
"""Speed of attention by head size beside that of 128."""

FORWARD, BACKWARD, OVERHEAD_KEYS = 0.75, 0.70, 950
"""Of the peak, for long documents; each row costs as if it saw so many keys more.

From 578 TFLOP/s with one document of 8192 and 250 with eight of 1024, forward and backward, on an H200.
"""

SCAN_SECONDS, SCAN_ELEMENTS, SCAN_BANDWIDTH = 1.37e-3, 8192 * 64 * 64 * 128, 4.8e12
"""Measured on an H200, forward and backward with the convolutions, inside of steps; bound by memory."""

KERNEL_SECONDS, LAUNCH_SECONDS = 3e-6, 6e-6


@dataclass(frozen=True)
class Published:
    """What the maker publishes: dense rates, and bytes per second in one direction."""

    name: str
    peaks: Mapping[str, float]
    memory_bytes: int
    memory: float
    link: float
    host: float
    network: float
    multiprocessors: int


HALF = ("bfloat16", "float16")

PUBLISHED = (
    Published(
        "A100", {"float64": 19.5e12, "float32": 19.5e12, **dict.fromkeys(HALF, 312e12)},
        80 * 2**30, 2.039e12, 300e9, 25e9, 25e9, 108,
    ),
    Published(
        "H100", {"float64": 67e12, "float32": 67e12, **dict.fromkeys(HALF, 989e12)},
        80 * 2**30, 3.35e12, 450e9, 50e9, 50e9, 132,
    ),
    Published(
        "H200", {"float64": 67e12, "float32": 67e12, **dict.fromkeys(HALF, 989e12)},
        139 * 2**30, 4.8e12, 450e9, 50e9, 50e9, 132,
    ),
    Published(
        "B200", {"float64": 37e12, "float32": 75e12, **dict.fromkeys(HALF, 2250e12)},
        179 * 2**30, 8e12, 900e9, 50e9, 50e9, 148,
    ),
)  # fmt: skip
"""The SXM versions with eight GPUs to a node, joined by NVLink, and a network adapter for each GPU."""


def assumed(of: Published) -> Hardware:
    """Hardware that reaches the shares above of what is published."""
    reached = OF_MEMORY * of.memory

    keys = tuple(float(2**power) for power in range(5, 18, 2))

    def product(dtype: str, small: float, others: float) -> float | None:
        side = sqrt(others)
        if side < small:
            return None
        flops = 2 * small * others
        moved = WIDTHS[dtype] * (2 * small * side + others)
        return KERNEL_SECONDS + max(flops / (OF_PRODUCTS * of.peaks[dtype]), moved / reached)

    def group(dtype: str, rows: float, weight: float) -> float:
        moved = WIDTHS[dtype] * (2 * rows * sqrt(weight) + weight)
        return max(2 * rows * weight / (0.7 * of.peaks[dtype]), moved / reached)

    def attention(dtype: str, share: float, flops: int) -> Table:
        full = share * of.peaks[dtype] * (1.0 if dtype in HALF else 0.5)
        seconds = [
            flops * dim * (seen + OVERHEAD_KEYS) / full / speed for dim, speed in OF_ATTENTION.items() for seen in keys
        ]
        return Table((Axis("head_dim", tuple(map(float, OF_ATTENTION))), Axis("keys", keys)), tuple(seconds))

    def scan(share: float) -> Table:
        seconds = share * SCAN_SECONDS * SCAN_BANDWIDTH / of.memory / SCAN_ELEMENTS
        return over("elements", [2.0**power for power in range(20, 36, 3)], lambda size: 3e-5 + size * seconds)

    def sent(latency: float) -> Table:
        return over("sent_bytes", BYTES, lambda size: latency + size / (OF_LINKS * of.link))

    areas = tuple(float(side**2) for side in SIDES)
    rows, weights = (16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0), tuple(float(side**2) for side in SIDES[1:6])
    smallest = tuple(map(float, SMALLEST))
    low = ("float32", *HALF)
    return Hardware(
        name=of.name,
        source="assumed",
        origin=(
            f"Published peaks and bandwidths of the {of.name} SXM: {OF_PRODUCTS:.0%} of the peak for products, "
            f"{OF_MEMORY:.0%} of the memory's bandwidth, {OF_LINKS:.0%} of NVLink's {of.link / 1e9:g} GB/s and of "
            f"{of.network * 8 / 1e9:g} Gbit/s for each GPU between nodes; attention, scan and the share of products "
            "as measured on an H200, in proportion to the peak or to the memory's bandwidth; launches 6 us."
        ),
        device="cuda",
        memory_bytes=of.memory_bytes,
        ranks_per_node=8,
        launch_seconds=LAUNCH_SECONDS,
        peaks=of.peaks,
        products={
            dtype: Table(
                (Axis("smallest", smallest), Axis("others", areas)),
                tuple(product(dtype, small, area) for small in smallest for area in areas),
            )
            for dtype in of.peaks
        },
        grouped={
            dtype: Table(
                (Axis("rows", rows), Axis("weight", weights)),
                tuple(group(dtype, count, weight) for count in rows for weight in weights),
            )
            for dtype in low
        },
        attentions={
            dtype: Attention(
                packed=Ways(forward=attention(dtype, FORWARD, 4), backward=attention(dtype, BACKWARD, 10)),
                even=None,
                least_rows=128 * of.multiprocessors,
            )
            for dtype in low
        },
        scans={dtype: Ways(forward=scan(0.35), backward=scan(0.65)) for dtype in low},
        memory=over("bytes", BYTES, lambda size: KERNEL_SECONDS + size / reached),
        copies=over("bytes", BYTES, lambda size: KERNEL_SECONDS + 2 * size / reached),
        host_copies=over("bytes", BYTES, lambda size: 1e-5 + size / of.host),
        updates=over("parameters", BYTES, lambda size: 2e-5 + 28 * size / reached),
        collectives={kind: {2: sent(1.5e-5), 8: sent(2.5e-5)} for kind in COLLECTIVES},
        transfers=over("bytes", BYTES, lambda size: 1.2e-5 + size / (OF_LINKS * of.link)),
        network=Network(bytes_per_second=OF_LINKS * of.network, latency_seconds=6e-6),
    )


def over(name: str, sizes: list[float] | tuple[float, ...], seconds: Callable[[float], float]) -> Table:
    """A table over one axis."""
    return Table((Axis(name, tuple(sizes)),), tuple(map(seconds, sizes)))


def main() -> None:
    """Write what has not been measured."""
    for published in PUBLISHED:
        file = FOLDER / f"{published.name.lower()}.json"
        if not file.exists() or json.loads(file.read_text())["source"] == "assumed":
            file.write_text(text_of(assumed(published)))


if __name__ == "__main__":
    main()
