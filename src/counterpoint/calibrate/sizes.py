"""Which sizes are measured, as models have them on GPUs and as tests have them on CPUs."""

from dataclasses import dataclass
from typing import Literal, final

Device = Literal["cuda", "cpu"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSizes:
    """Attention of `rows` rows in documents in which a row sees `keys` rows on average, by head size."""

    rows: int
    heads: int
    dims: tuple[int, ...]
    keys: tuple[int, ...]
    few_rows: int
    """Rows of one head that cannot fill the device."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSizes:
    """Mamba-2 by numbers of rows, in one document."""

    rows: tuple[int, ...]
    heads: int
    head_dim: int
    groups: int
    state: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSizes:
    """Products of `groups` weights (sides x sides) with rows for each."""

    groups: int
    rows: tuple[int, ...]
    sides: tuple[int, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """All that is measured; on a GPU each figure takes about `window_seconds`, on a CPU several batches at least.

    `sides` are the roots of the product of a matrix product's two larger sizes, by dtype. Element-wise kernels, copies
    and updates get so many `elements`, collectives send so many bytes a rank. With `compiles` layers are measured
    compiled, too, which takes a while: trainings compile on GPUs if nothing else is asked for.
    """

    window_seconds: float
    smallest: tuple[int, ...]
    sides: dict[str, tuple[int, ...]]
    grouped: dict[str, GroupSizes]
    attention: dict[str, HeadSizes]
    scans: ScanSizes
    elements: tuple[int, ...]
    sent_bytes: tuple[int, ...]
    compiles: bool = False


def sizes_for(device: Device, *, quick: bool) -> Sizes:
    """The sizes for a device; `quick` ones are rough."""
    if device == "cuda":
        return _QUICK_GPU if quick else _GPU
    return _QUICK_CPU if quick else _CPU


_GPU_HEADS = HeadSizes(rows=16384, heads=16, dims=(64, 80, 128), keys=(64, 512, 2048, 8192), few_rows=256)

_GPU = Sizes(
    window_seconds=0.02,
    smallest=(16, 64, 256, 1024, 4096, 8192),
    sides={
        "bfloat16": (256, 512, 1024, 2048, 4096, 8192, 16384),
        "float32": (256, 1024, 4096, 8192),
        "float64": (256, 1024, 4096),
    },
    grouped={
        "bfloat16": GroupSizes(groups=16, rows=(16, 128, 512, 2048, 8192), sides=(1024, 2048, 4096)),
        "float32": GroupSizes(groups=16, rows=(128, 1024), sides=(1024, 2048)),
    },
    attention={
        "bfloat16": _GPU_HEADS,
        "float32": HeadSizes(rows=4096, heads=16, dims=(64, 128), keys=(64, 256, 1024), few_rows=256),
    },
    scans=ScanSizes(rows=(512, 2048, 8192, 32768), heads=64, head_dim=64, groups=8, state=128),
    elements=(2**14, 2**18, 2**22, 2**25, 2**28),
    sent_bytes=(2**10, 2**15, 2**18, 2**20, 2**23, 2**26, 2**29),
    compiles=True,
)

_QUICK_GPU = Sizes(
    window_seconds=0.005,
    smallest=(64, 1024),
    sides={"bfloat16": (256, 2048, 8192), "float32": (256, 2048)},
    grouped={"bfloat16": GroupSizes(groups=8, rows=(128, 2048), sides=(1024, 2048))},
    attention={"bfloat16": HeadSizes(rows=8192, heads=16, dims=(64, 128), keys=(256, 4096), few_rows=256)},
    scans=ScanSizes(rows=(2048, 8192), heads=64, head_dim=64, groups=8, state=128),
    elements=(2**14, 2**20, 2**26),
    sent_bytes=(2**10, 2**20, 2**26),
)

_CPU_HEADS = HeadSizes(rows=512, heads=2, dims=(16, 64), keys=(8, 64, 256), few_rows=16)
_CPU_DTYPES = ("float32", "float64", "bfloat16")
_QUICK_DTYPES = ("float32", "float64")

_CPU = Sizes(
    window_seconds=0.1,
    smallest=(8, 32, 128, 256),
    sides={"float32": (16, 64, 256, 768), "float64": (16, 64, 256, 768), "bfloat16": (16, 64, 256)},
    grouped=dict.fromkeys(_CPU_DTYPES, GroupSizes(groups=4, rows=(8, 64, 256), sides=(32, 128))),
    attention=dict.fromkeys(_CPU_DTYPES, _CPU_HEADS),
    scans=ScanSizes(rows=(16, 128, 1024), heads=4, head_dim=16, groups=2, state=16),
    elements=(2**8, 2**12, 2**16, 2**20),
    sent_bytes=(2**8, 2**12, 2**16, 2**19, 2**22),
)

_QUICK_CPU = Sizes(
    window_seconds=0.004,
    smallest=(8, 64),
    sides=dict.fromkeys(_QUICK_DTYPES, (16, 64, 256)),
    grouped=dict.fromkeys(_QUICK_DTYPES, GroupSizes(groups=2, rows=(8, 64), sides=(32, 64))),
    attention=dict.fromkeys(_QUICK_DTYPES, HeadSizes(rows=128, heads=2, dims=(16, 32), keys=(8, 32), few_rows=8)),
    scans=ScanSizes(rows=(16, 64), heads=2, head_dim=8, groups=1, state=8),
    elements=(2**8, 2**14, 2**18),
    sent_bytes=(2**8, 2**14, 2**18),
)
