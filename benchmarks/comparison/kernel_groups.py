"""What the kernels of a step are for, by their names: one group for each line of a budget."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

NCCL, IDLE = "NCCL", "idle"

_MOVES = r"sort|radix|index|gather|scatter|topk|embedding|permut|histogram|bincount|searchsorted"
_SCAN = r"ssd|ssm|scan|conv(?!ert)|mamba|chunk_state|cumsum"

_COMPILED = (("sort, gather, scatter", _MOVES), ("scan and conv", _SCAN), ("compiled", "."))
"""Compiled kernels are named after what they fuse, so one that gathers counts as a gather, whatever else it does."""

_OURS = (
    ("optimizer", "_update"),
    ("sort, gather, scatter", "_copy|_sum|_count|_place"),
    ("scan and conv", "_(convolve|carry)(_back)?|_sum_in_documents|_add_states|_mix|_(entering_|shared_)?gradients"),
)
"""Whole names of kernels written by hand."""

_OTHERS = (
    (NCCL, "nccl"),
    ("attention", r"flash|fmha|sdpa|attention|mha_"),
    ("optimizer", r"multi_tensor|adam|lpnorm|foreach"),
    ("sort, gather, scatter", rf"{_MOVES}|tensor_kernel_scan|devicescan|compute_grad_weight|sum_of_rows|krn_partial"),
    ("products", r"gemm|nvjet|cutlass|xmma|cublas|grouped|splitk|gemv|matmul|bmm"),
    ("scan and conv", _SCAN),
    ("copies", r"memcpy|memset|copy|fill|chunk_cat|catarray|split_with_sizes"),
    ("elementwise", r"elementwise|vectorized|reduce|norm|softmax|unrolled"),
)
"""Groups in the order in which a name is tried: the first that fits counts."""


@dataclass(frozen=True, slots=True)
class GroupTime:
    """Seconds and kernels of a group in a step; kernels of several streams may run at the same time."""

    seconds: float
    kernels: int


def group_of(kernel: str) -> str:
    """The group of a kernel, `other` if no pattern fits its name."""
    if own := next((name for name, pattern in _OURS if re.fullmatch(pattern, kernel)), None):
        return own
    groups = _COMPILED if kernel.startswith("triton_") else _OTHERS
    return next((name for name, pattern in groups if re.search(pattern, kernel, re.IGNORECASE)), "other")


def grouped(table: Iterable[tuple[float, int, str]], idle: float) -> dict[str, GroupTime]:
    """The groups of a step's (seconds, calls, kernel), the longest first; `idle` seconds are those without a kernel."""
    seconds: dict[str, float] = {}
    kernels: dict[str, int] = {}
    for spent, calls, kernel in table:
        name = group_of(kernel)
        seconds[name] = seconds.get(name, 0.0) + spent
        kernels[name] = kernels.get(name, 0) + calls
    found = {name: GroupTime(seconds[name], kernels[name]) for name in sorted(seconds, key=lambda n: -seconds[n])}
    return {**found, IDLE: GroupTime(idle, 0)}
