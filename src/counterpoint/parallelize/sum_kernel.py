"""A GPU kernel that sums a few tensors at once; torch's own sum over so short a first dim reaches half of the memory's
bandwidth (measured: 2.3 of 4.3 TB/s for four of 64 MiB).

It imports Triton, which comes with torch for GPUs, so import it only where a GPU is in use.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 4096


@triton.jit  # type: ignore[untyped-decorator]
def _sum(parts, out, elements, SIZE: tl.constexpr, BLOCK: tl.constexpr, WIDE: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < elements
    total = tl.load(parts + at, mask=inside).to(WIDE)
    for _part in tl.static_range(1, SIZE):
        parts += elements
        total += tl.load(parts + at, mask=inside).to(WIDE)
    tl.store(out + at, total.to(out.dtype.element_ty), mask=inside)


def summed(parts: Tensor) -> Tensor:
    """The sum over the first dim of contiguous parts (size, ...), added up in at least float32."""
    out = torch.empty_like(parts[0])
    elements = out.numel()
    wide = tl.float64 if parts.dtype == torch.float64 else tl.float32
    blocks = triton.cdiv(elements, _BLOCK)
    _sum[(blocks,)](parts, out, elements, SIZE=parts.shape[0], BLOCK=_BLOCK, WIDE=wide, num_warps=8)
    return out
