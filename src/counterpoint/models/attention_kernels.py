"""Which kernel computes attention: cuDNN's, FlashAttention's or torch's choice, by shape, as they were measured.

`benchmarks/kernels.py` measures them; docs/performance.md has the numbers. FlashAttention 4 comes with the extra `gpu`
and is used where it is installed; without it packed documents take torch's own kernel for them.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

_NARROW = (torch.bfloat16, torch.float16)

_LONG = 2048
"""Rows from which on FlashAttention 4 is ahead of cuDNN in causal attention of equal documents."""

_ALIGNED, _WIDEST = 8, 256
"""Kernels of packed documents take heads whose width is a multiple of the one and at most the other."""

_WIDEST_FLASH_FOUR = 128
"""Of the heads that FlashAttention 4 has kernels for on every GPU that it is made for."""

_DENSE = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def attend_evenly(queries: Tensor, keys: Tensor, values: Tensor, *, causal: bool) -> Tensor:
    """Attention inside documents of one length: queries (documents, length, heads, dim), keys and values with their
    own number of heads -> (documents, length, heads, dim)."""
    is_fast = _is_fast(queries)
    is_long = causal and queries.shape[1] >= _LONG
    if is_fast and is_long and (kernels := _flash_four_for(queries)) is not None:
        mixed: Tensor = kernels.flash_attn_func(queries, keys, values, causal=True)[0]
        return mixed
    q, k, v = (tensor.transpose(1, 2) for tensor in (queries, keys, values))
    grouped = q.shape[1] != k.shape[1]
    with sdpa_kernel(_DENSE, set_priority=True) if is_fast else nullcontext():
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=grouped).transpose(1, 2)


def has_packed(queries: Tensor) -> bool:
    """Whether a kernel takes packed documents of such queries (rows, heads, dim) as they lie."""
    return _is_fast(queries) and queries.shape[-1] % _ALIGNED == 0 and queries.shape[-1] <= _WIDEST


def attend_packed(
    queries: Tensor, keys: Tensor, values: Tensor, borders: Tensor, longest: int, *, causal: bool
) -> Tensor:
    """Attention inside documents that begin and end at `borders`, int32 on the device: queries (rows, heads, dim)."""
    if (kernels := _flash_four_for(queries)) is not None:
        ends = {"cu_seqlens_q": borders, "cu_seqlens_k": borders, "max_seqlen_q": longest, "max_seqlen_k": longest}
        mixed: Tensor = kernels.flash_attn_varlen_func(queries, keys, values, **ends, causal=causal)[0]
        return mixed
    # torch's kernel takes as many heads of keys as of queries.
    repeats = queries.shape[1] // keys.shape[1]
    if repeats > 1:
        keys, values = (tensor.repeat_interleave(repeats, dim=1) for tensor in (keys, values))
    window = (-1, 0) if causal else (-1, -1)
    packed = _varlen()(queries, keys, values, borders, borders, longest, longest, window_size=window)
    assert isinstance(packed, Tensor)
    return packed


def _is_fast(queries: Tensor) -> bool:
    """Whether the GPU's own kernels apply; their backwards add up in any order, so not to deterministic runs."""
    return queries.is_cuda and queries.dtype in _NARROW and not torch.are_deterministic_algorithms_enabled()


def _flash_four_for(queries: Tensor) -> Any:
    width = queries.shape[-1]
    return _flash_four() if width % _ALIGNED == 0 and width <= _WIDEST_FLASH_FOUR else None


@cache
def _flash_four() -> Any:
    """FlashAttention 4, if it is installed and this GPU is one that it is made for."""
    if torch.cuda.get_device_capability()[0] not in (9, 10):
        return None
    is_installed = find_spec("flash_attn") is not None and find_spec("flash_attn.cute") is not None
    return import_module("flash_attn.cute") if is_installed else None


@cache
def _varlen() -> Callable[..., Any]:
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn
